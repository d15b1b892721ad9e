"""`python -m listenwell` is the command line."""

from listenwell.cli.main import main

if __name__ == "__main__":
    main()
