// Bounds what the processes of a local cluster write to their logs.

import Foundation

/// Keeps each log file below a size, with one older file beside it.
struct LogRotation: Sendable {
    /// The folder of the logs.
    let folder: String
    /// A file larger than this (bytes) is set aside.
    var limit = 16 << 20

    /// Looks at every log once. The processes keep their descriptors (they append), so a full log is copied aside and emptied.
    func rotate() {
        let files = FileManager.default
        for name in (try? files.contentsOfDirectory(atPath: folder)) ?? [] where name.hasSuffix(".log") {
            let path = folder + "/" + name
            var information = stat()
            guard stat(path, &information) == 0, information.st_size > limit else { continue }
            try? files.removeItem(atPath: path + ".1")
            try? files.copyItem(atPath: path, toPath: path + ".1")
            truncate(path, 0)
        }
    }
}
