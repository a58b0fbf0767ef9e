// vars/capturedTests.groovy of a shared library: runs pytest, and keeps what it captured, also of a build that is aborted.
// It needs the plugins Pipeline, JUnit and JUnit Attachments.
//
//     stage('test') { steps { capturedTests('--gencore-timeout=300 tests') } }

void call(String options = '') {
    try {
        withEnv(["GENCORE_OPTIONS=${options}"]) {
            sh 'python -m pytest --gencore-on-fail --junitxml=report.xml $GENCORE_OPTIONS'
        }
    } finally {
        sh 'gencore wait --timeout 4m || true'
        junit testResults: 'report.xml', allowEmptyResults: true, testDataPublishers: [attachments()]
        archiveArtifacts artifacts: 'gencore-artifacts/*.tar.gz,gencore-artifacts/*.txt,gencore-artifacts/*.html', allowEmptyArchive: true
    }
}
