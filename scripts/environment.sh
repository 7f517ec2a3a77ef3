# Sourced by the scripts beside it, from the project's root: makes .venv once, installs the project into it with the
# extras given as $1 (none: -), and installs again only when pyproject.toml has changed.

python=$(command -v python3.12 || command -v python3.11 || command -v python3.10 || command -v python3) || {
  echo "no python3 found: install Python 3.10 or newer" >&2
  exit 1
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "$("$python" --version) is too old: install Python 3.10 or newer" >&2
  exit 1
}
if [ ! -x .venv/bin/python ]; then
  echo "== making the virtual environment .venv"
  "$python" -m venv .venv
fi
stamp=.venv/installed-$1.sha256
if ! sha256sum --check --status "$stamp" 2>/dev/null; then
  echo "== installing nnunet-dycon into .venv (torch takes a few minutes the first time)"
  if [ "$1" = - ]; then target=.; else target=".[$1]"; fi
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable "$target"
  sha256sum pyproject.toml > "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
