package org.jenkinsci.plugins.workflow.steps

/** Stands for Jenkins' own, which a step throws when the build is aborted. */
class FlowInterruptedException extends InterruptedException {

    private static final long serialVersionUID = 1L

}
