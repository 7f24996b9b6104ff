"""What builds bring, work in and leave: trees of files, handled without ever following a link."""
