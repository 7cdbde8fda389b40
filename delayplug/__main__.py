"""`python -m delayplug` is the command `delayplug`."""

from .cli import main

main()
