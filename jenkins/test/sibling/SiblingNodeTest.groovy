package sibling

import org.jenkinsci.plugins.workflow.steps.FlowInterruptedException
import org.junit.Test

class SiblingNodeTest extends LibraryTest {

    SiblingNodeTest(String kind) {
        super(kind)
    }

    @Test
    void 'the label names image, limits and a run of its own'() {
        pipeline "siblingNode(image: 'python:3.12', cpus: 2, memory: '4g') { echo 'inside' }"
        assert labels.size() == 1
        assert labels[0] ==~ 'image=python:3\\.12,cpus=2,memory=4g,run=jenkins-team-app-12-[0-9a-f]{12}'
        assert echoed == ['inside']
    }

    @Test
    void 'the level of Docker is in the label'() {
        pipeline "siblingNode(image: 'python:3.12', docker: 'scoped') { }"
        assert labels[0] ==~ 'image=python:3\\.12,docker=scoped,run=.*'
    }

    @Test
    void 'two calls of one build have different labels'() {
        pipeline "siblingNode(image: 'python:3.12') { }; siblingNode(image: 'python:3.12') { }"
        assert labels.size() == 2
        assert labels[0] != labels[1]
    }

    @Test
    void 'a tag that no label can hold is made one that can, and keeps its end'() {
        env.BUILD_TAG = "jenkins-Größe & <x>, (\"y\")${'-long' * 30}-77"
        pipeline "siblingNode(image: 'a') { }"
        assert labels[0] ==~ 'image=a,run=[A-Za-z0-9._-]{1,60}-77-[0-9a-f]{12}'
        env.BUILD_TAG = 'jenkins-a & b-1'
        pipeline "siblingNode(image: 'a') { }"
        assert labels[1] ==~ 'image=a,run=jenkins-a-b-1-[0-9a-f]{12}'
        env.remove('BUILD_TAG')
        pipeline "siblingNode(image: 'a') { }"
        assert labels[2] ==~ 'image=a,run=build-[0-9a-f]{12}'
    }

    @Test
    void 'an image keeps its registry, port and digest'() {
        pipeline "siblingNode(image: 'registry.example:5000/team/app@sha256:0f') { }"
        assert labels[0].startsWith('image=registry.example:5000/team/app@sha256:0f,run=')
    }

    @Test
    void 'a template is asked for by its label or expression'() {
        pipeline "siblingNode(template: 'linux-small') { }; siblingNode(template: 'maven && large') { }"
        assert labels == ['linux-small', 'maven && large']
    }

    @Test
    void 'it gives what its body gives'() {
        assert pipeline("siblingNode(image: 'a') { 'from within' }") == 'from within'
    }

    @Test
    void 'what the body throws goes through'() {
        helper.registerAllowedMethod('input', [String]) { String text -> throw new FlowInterruptedException() }
        assert thrownBy { pipeline "siblingNode(image: 'a') { input 'Go on?' }" } instanceof FlowInterruptedException
        assert labels.size() == 1
    }

    @Test
    void 'wrong arguments are told before anything is asked for'() {
        Map<String, String> wrong = [
            '': 'give either image',
            "image: 'a', template: 'b'": 'give either image',
            "template: 'b', cpus: 2": 'cpus, memory and docker belong to image',
            "template: 'b', docker: 'scoped'": 'cpus, memory and docker belong to image',
            "image: 'a', cpu: 2": 'there is no argument cpu. There are: cpus, docker, image, memory, template.',
            "image: 'a b'": "image: 'a b' cannot stand in a label",
            "image: 'a,cpus=64'": 'cannot stand in a label',
            "image: 'a\\'b'": 'cannot stand in a label',
            "image: 'a', memory: '4g||x'": "memory: '4g||x' cannot stand in a label",
            "image: ['a']": 'image must be a text.',
            "image: 'a', cpus: true": 'cpus must be a text or a number.',
        ]
        for (pair in wrong) {
            String message = failureOf { pipeline "siblingNode(${pair.key}) { }" }
            assert message.startsWith('siblingNode: ')
            assert message.contains(pair.value)
        }
        assert labels.empty
    }

}
