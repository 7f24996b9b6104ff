package sibling

import com.cloudbees.groovy.cps.NonCPS
import groovy.json.JsonSlurper

/** What `--metadata-file` has. */
class Metadata implements Serializable {

    private static final long serialVersionUID = 1L

    /** The digest of what was pushed, else the image's id; null if there is no image. */
    @NonCPS
    static String digest(String json) {
        Map facts = json ? (Map) new JsonSlurper().parseText(json) : [:]
        List pushed = (List) (facts['sibling.pushed'] ?: [])
        Object digest = pushed ? pushed[0].digest : facts['containerimage.digest'] ?: facts['containerimage.config.digest']
        return digest?.toString()
    }

}
