"""A study in a notebook: what it recorded as tidy pandas frames, what it concluded as typed values, both as figures."""
