"""`python -m listenwell` is the command line."""

from listenwell.cli import main

if __name__ == "__main__":
    main()
