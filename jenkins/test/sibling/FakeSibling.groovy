package sibling

/** A `sibling` that leaves what it was called with, and does as it is told. */
class FakeSibling {

    final File bin
    private final File records

    FakeSibling(File folder) {
        bin = new File(folder, 'bin')
        records = new File(folder, 'records')
        bin.mkdirs()
        records.mkdirs()
        File program = new File(bin, 'sibling')
        program.text = """\
            |#!/bin/sh
            |for argument; do
            |    printf '%s\\0' "\$argument"
            |    case \$argument in
            |    --metadata-file=*) [ ! -f '${records}/metadata' ] || cp '${records}/metadata' "\${argument#*=}" ;;
            |    esac
            |done >>'${records}/argv'
            |printf '\\n' >>'${records}/argv'
            |env >'${records}/env'
            |[ ! -f '${records}/output' ] || cat '${records}/output' >&2
            |[ ! -f '${records}/status' ] || exit "\$(cat '${records}/status')"
            |""".stripMargin()
        program.executable = true
    }

    /** What it is to do: metadata, output and status. */
    void answer(Map<String, Object> texts) {
        for (text in texts) {
            new File(records, text.key).setText(text.value.toString(), 'UTF-8')
        }
    }

    /** The arguments of every call, in order. */
    List<List<String>> getCalls() {
        File file = new File(records, 'argv')
        // A line end follows the last argument's NUL, which no argument can hold.
        return file.exists() ? file.getText('UTF-8').split('\u0000\n').collect { it.split('\u0000', -1) as List } : []
    }

    /** The environment of the last call. */
    Map<String, String> getEnvironment() {
        return new File(records, 'env').getText('UTF-8').readLines().findAll { it.contains('=') }.collectEntries {
            List<String> pair = it.split('=', 2) as List
            [(pair[0]): pair[1]]
        }
    }

}
