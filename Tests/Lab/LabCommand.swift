// Programs of the distribution as parts of a test: one that runs to its end within a limit, and one that serves
// until the test stops it or dies.

import Foundation
import Synchronization

/// An external program failed.
public struct LabCommandError: Error, CustomStringConvertible {
    /// What was run and how it ended.
    public let description: String
    /// - description: what was run and how it ended.
    public init(description: String) { self.description = description }
}

/// Runs a program to its end and gives its output; throws when it fails or takes longer than `limit`.
@discardableResult
public func labCommand(
    _ program: String, _ arguments: [String] = [], in folder: URL? = nil,
    within limit: Duration = .seconds(20)
) async throws -> String {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = ["timeout", "-k", "1", "\(limit.components.seconds)", program] + arguments
    process.currentDirectoryURL = folder
    let output = FileManager.default.temporaryDirectory.appending(path: "lab-\(UUID().uuidString)")
    FileManager.default.createFile(atPath: output.path, contents: nil)
    defer { try? FileManager.default.removeItem(at: output) }
    let handle = try FileHandle(forWritingTo: output)
    process.standardOutput = handle
    process.standardError = handle
    process.standardInput = FileHandle.nullDevice
    try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
        process.terminationHandler = { _ in done.resume() }
        do { try process.run() } catch { done.resume(throwing: error) }
    }
    try handle.close()
    let text = String(decoding: try Data(contentsOf: output), as: UTF8.self)
    guard process.terminationStatus == 0 else {
        throw LabCommandError(
            description:
                "\(program) \(arguments.joined(separator: " ")): status \(process.terminationStatus)\n\(text)"
        )
    }
    return text
}

/// A server of the distribution that lives as long as this value, and never longer than this process: a shell
/// between the two ends it when the pipe to it closes.
public final class LabServer: Sendable {
    private let process: Mutex<Process>
    private let leash: FileHandle

    /// Starts a program that stays in the foreground.
    ///
    /// - log: where its output goes.
    public init(_ program: String, _ arguments: [String], log: URL) throws {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments =
            ["-c", #"exec 3<&0 </dev/null; "$@" & p=$!; read _ <&3; kill $p; wait $p"#, "sh", program]
            + arguments
        FileManager.default.createFile(atPath: log.path, contents: nil)
        let handle = try FileHandle(forWritingTo: log)
        process.standardInput = pipe
        process.standardOutput = handle
        process.standardError = handle
        try process.run()
        self.leash = pipe.fileHandleForWriting
        self.process = Mutex(process)
    }

    deinit { stop() }

    /// Ends the program.
    public func stop() {
        try? leash.close()
        process.withLock { if $0.isRunning { $0.waitUntilExit() } }
    }
}
