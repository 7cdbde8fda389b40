"""`python -m delayplug` is the command `delayplug`."""

from .cli import main

if __name__ == "__main__":
    main()
