# Sourced by the scripts beside it, from the project's root: makes a virtual environment once, installs the project into
# it with the extras given as $1 (none: -), and installs again only when pyproject.toml has changed. With a file of pip
# constraints as $2 the environment is .venv-oldest instead of .venv.

venv=.venv${2:+-oldest}
if [ ! -x "$venv/bin/python" ]; then
  # a name on the PATH may be a version manager's shim without a Python behind it: only what runs counts
  newest=$([ -z "${2:-}" ] && echo 13 || echo 11) # the oldest torch has no build for a newer Python
  python=
  for candidate in python3 python3.12 python3.11 python3.10 python3.13; do
    if "$candidate" -c "import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $newest))" \
      > /dev/null 2>&1; then
      python=$candidate
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "no Python 3.10 to 3.$newest with venv found: install one (Debian, Ubuntu: apt install python3 python3-venv)" >&2
    exit 1
  fi
  echo "== making the virtual environment $venv"
  "$python" -m venv --clear "$venv"
fi
stamp=$venv/installed-$1.sha256
if ! sha256sum --check --status "$stamp" 2>/dev/null; then
  echo "== installing nnunet-dycon into $venv (torch takes a few minutes the first time)"
  if [ "$1" = - ]; then target=.; else target=".[$1]"; fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check ${2:+--constraint "$2"} --editable "$target"
  sha256sum pyproject.toml ${2:+"$2"} > "$stamp"
fi
export PATH="$PWD/$venv/bin:$PATH"
