"""A study in a notebook: its records as tidy pandas frames, its analysis as typed values, both as figures."""
