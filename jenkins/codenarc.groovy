// What CodeNarc holds the library, its tests and the examples to: all it has for such code, but for what is told here.
ruleset {
    for (name in ['basic', 'braces', 'concurrency', 'design', 'enhanced', 'exceptions', 'generic', 'imports', 'logging',
                  'security', 'serialization', 'size', 'unnecessary', 'unused']) {
        ruleset("rulesets/${name}.xml") {
            exclude 'AbstractClassWithPublicConstructor' // JUnit makes tests by it
            exclude 'FileCreateTempFile'                 // in a folder of the test's own
            exclude 'Instanceof'                         // arguments come with any type
            exclude 'JavaIoPackageAccess'                // for Enterprise JavaBeans
            exclude 'NestedBlockDepth'                   // a pipeline is nested
            exclude 'NestedForLoop'
            exclude 'NoScriptBindings'                   // the variables of `environment`
            exclude 'PublicInstanceField'                // JUnit's rules
            exclude 'UnnecessaryObjectReferences'
            exclude 'UnnecessaryReturnKeyword'           // said, it is seen
            exclude 'UnnecessarySetter'
            exclude 'UnnecessaryToString'                // what Jenkins keeps must be a String, not a GString
            exclude 'UnusedVariable'
        }
    }
    ruleset('rulesets/convention.xml') {
        exclude 'CompileStatic'                          // Jenkins' transformation ignores it
        exclude 'ImplicitClosureParameter'
        exclude 'MethodReturnTypeRequired'               // a step gives what its body gives
        exclude 'PublicMethodsBeforeNonPublicMethods'
        exclude 'StaticMethodsBeforeInstanceMethods'     // they stand where they are read
        'NoDef' {
            excludeRegex = 'call'
            doNotApplyToFilesMatching = '.*Jenkinsfile'  // the `_` behind @Library
        }
        'VariableTypeRequired' {
            ignoreVariableNames = '_'
        }
    }
    ruleset('rulesets/formatting.xml') {
        'LineLength' {
            length = 128
        }
        'SpaceAroundMapEntryColon' {
            characterAfterColonRegex = /\s/
        }
    }
    ruleset('rulesets/groovyism.xml') {
        exclude 'GStringExpressionWithinString'          // a Jenkinsfile within a test
    }
    ruleset('rulesets/jenkins.xml') {
        'CpsCallFromNonCpsMethod' {
            cpsPackages = ['sibling']
        }
    }
    ruleset('rulesets/junit.xml') {
        exclude 'JUnitPublicNonTestMethod'
        exclude 'JUnitPublicProperty'
    }
    ruleset('rulesets/naming.xml') {
        exclude 'ConfusingMethodName'
        exclude 'FactoryMethodName'                      // `build` is what people call it
        'MethodName' {
            doNotApplyToFilesMatching = '.*Test[.]groovy' // a test's name is its claim
        }
        'VariableName' {
            ignoreVariableNames = '_'
        }
    }
}
