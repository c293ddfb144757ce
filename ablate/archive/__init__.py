"""A study's evidence in one archive: what its runs recorded and what was concluded from that, to be verified elsewhere.

*files -> contents -> archive -> write*, and back: *unpack -> checks -> verify*. A study is read where it lies, and never
changed.
"""
