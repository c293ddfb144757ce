"""A study in a notebook: its records as tidy pandas frames, its analysis as dataclasses, both as figures."""
