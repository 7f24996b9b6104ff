package hudson

/** Stands for Jenkins' own, by which `error` and a failed `sh` end a build with a message alone. */
class AbortException extends IOException {

    private static final long serialVersionUID = 1L

    AbortException(String message) {
        super(message)
    }

}
