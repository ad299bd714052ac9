"""`python -m celery_postgres.embedded [DIRECTORY]`: a private server until Ctrl+C."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from celery_postgres.errors import Error

from .serving import serve


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m celery_postgres.embedded",
        description="Run a private PostgreSQL server until Ctrl+C.",
    )
    parser.add_argument("directory", nargs="?", type=Path, help="keep the data here; default: temporary data")
    try:
        return serve(parser.parse_args().directory)
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
