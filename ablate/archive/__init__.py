"""Evidence of a study in one archive: `bundle` writes its records and conclusions, `verify` checks them on another machine.

Verification is a manifest of hashes, and a rebuild of everything that follows from the records. The study is never changed.
"""
