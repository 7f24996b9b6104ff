# Draws the Mandelbrot set: -v width=W -v height=H, and -v pgm=1 for a picture file instead of letters.

# How many steps it takes from z = 0 by z = z*z + c until |z| > 2; `most` if it never does.
function steps(cx, cy, most,    x, y, t, n) {
    for (n = 0; n < most && x * x + y * y <= 4; n++) {
        t = x * x - y * y + cx
        y = 2 * x * y + cy
        x = t
    }
    return n
}

function point(column, row, most) {
    return steps(-2.2 + 3.2 * column / (width - 1), -1.2 + 2.4 * row / (height - 1), most)
}

# A letter for every doubling of the steps; not by log(), which a small busybox leaves out.
function letter(n,    shade) {
    for (shade = 1; n > 1; n /= 2) shade++
    return substr("  .:-=+*#%@@@@", shade, 1)
}

BEGIN {
    if (pgm) print "P2", width, height, 100
    for (row = 0; row < height; row++) {
        line = ""
        for (column = 0; column < width; column++)
            line = line (pgm ? 100 - point(column, row, 100) " " : letter(point(column, row, 5000)))
        print line
        fflush() # a line at a time, so that whoever follows the log sees it grow
    }
}
