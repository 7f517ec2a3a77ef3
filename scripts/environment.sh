# Sourced by the scripts beside it, from the project's root: makes .venv once, installs the project into it with the
# extras given as $1 (several with commas, none: -), and installs again only when pyproject.toml has changed.

if [ ! -x .venv/bin/python ]; then
  # a name on the PATH may be a version manager's shim without a Python behind it: only what runs counts
  python=
  for candidate in python3 python3.12 python3.11 python3.10 python3.13; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' > /dev/null 2>&1; then
      python=$candidate
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "no Python 3.10 or newer with venv found: install one (Debian, Ubuntu: apt install python3 python3-venv)" >&2
    exit 1
  fi
  echo "== making the virtual environment .venv"
  "$python" -m venv --clear .venv
fi
stamp=.venv/installed-$1.sha256
if ! sha256sum --check --status "$stamp" 2>/dev/null; then
  echo "== installing nnunet-dycon into .venv (torch takes a few minutes the first time)"
  if [ "$1" = - ]; then target=.; else target=".[$1]"; fi
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable "$target"
  sha256sum pyproject.toml > "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
