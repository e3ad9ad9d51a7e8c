// A folder that goes when the test ends, which the user postgres can reach.

import Foundation

final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/zegel-test-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { throw CocoaError(.fileWriteUnknown) }
        path = String(cString: made)
        chmod(path, 0o755)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
