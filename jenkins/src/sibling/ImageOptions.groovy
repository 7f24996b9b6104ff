package sibling

import com.cloudbees.groovy.cps.NonCPS

/** The arguments of `siblingImage.build` and `siblingImage.push`. */
class ImageOptions implements Serializable {

    private static final long serialVersionUID = 1L

    private static final Options BUILD = new Options('siblingImage.build', [
        texts: [
            file: '--file', target: '--target', network: '--network', progress: '--progress', output: '--output',
            timeout: '--timeout', cpus: '--cpus', memory: '--memory', context: '',
        ],
        flags: [push: '--push', noCache: '--no-cache', pull: '--pull', noSourceLabels: '--no-source-labels'],
        lists: [tags: '--tag', platforms: '--platform', cacheFrom: '--cache-from', cacheTo: '--cache-to',
            secrets: ''],
        maps: [buildArgs: '--build-arg', labels: '--label'],
    ])

    private static final Options PUSH = new Options(
        'siblingImage.push', [texts: [:], flags: [:], lists: [tags: ''], maps: [:]])

    /** What is wrong with a build's arguments, as a sentence, or null. */
    @NonCPS
    static String complaintOfBuild(Map<String, Object> given) {
        String complaint = BUILD.complaint(given)
        if (complaint) {
            return complaint
        }
        if (given.push && !given.tags) {
            return "siblingImage.build: push needs tags to push, such as ['registry.example/team/app:1']."
        }
        if (given.context?.toString() == '-') {
            return 'siblingImage.build: context - would be read from standard input, which a step has not; give a folder.'
        }
        if (given.output ==~ '-|type=tar(,.*)?' && !given.output.toString().contains('dest=')) {
            return "siblingImage.build: output must name a file or a folder, such as 'type=tar,dest=root.tar'."
        }
        for (secret in Options.listed(given.secrets ?: [])) {
            if (!(secret ==~ '[A-Za-z_][A-Za-z0-9_]*|id=[^,]+(,(src|env)=[^,]+)?')) {
                return "siblingImage.build: secrets holds names of environment variables, such as 'TOKEN', or " +
                    "'id=ID,env=NAME', or 'id=ID,src=FILE'; never a value, which everybody on the agent could see."
            }
        }
        return null
    }

    /** The command line of a build after `sibling`; the digest is read from the metadata file. */
    @NonCPS
    static List<String> argvOfBuild(Map<String, Object> given, String metadataFile) {
        List<String> argv = ['image', 'build'] + BUILD.argv(given)
        for (secret in Options.listed(given.secrets ?: [])) {
            argv.add('--secret=' + (secret.contains('=') ? secret : 'id=' + secret))
        }
        argv.add('--metadata-file=' + metadataFile)
        argv.add((given.context ?: '.').toString())
        return argv
    }

    /** What is wrong with a push's arguments, as a sentence, or null. */
    @NonCPS
    static String complaintOfPush(Map<String, Object> given) {
        return PUSH.complaint(given) ?:
            (given.tags ? null : 'siblingImage.push: tags is missing: the names that the image was built with.')
    }

    /** The command line of a push after `sibling`; the digest is read from the metadata file. */
    @NonCPS
    static List<String> argvOfPush(Map<String, Object> given, String metadataFile) {
        return ['image', 'push', '--metadata-file=' + metadataFile] + Options.listed(given.tags)
    }

}
