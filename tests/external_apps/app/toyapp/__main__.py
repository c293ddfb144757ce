"""`python -m toyapp`."""

from toyapp.main import main

main()
