"""One file per revision, named after it: `0001_builds.py` is revision 0001."""
