"""``python -m qasr.cli``."""

from qasr.cli import main

if __name__ == "__main__":
    main()
