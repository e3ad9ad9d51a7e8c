// curl as a client that the project did not write.
import Foundation

/// Asks a server with the installed curl, trusting the test's own authority.
struct Curl {
    struct Answer {
        var status: Int
        /// By lower-case name.
        var headers: [String: String]
        var body: String
    }

    private let port: Int
    private let authority: String

    init(_ api: ServedAPI) throws {
        port = api.port
        authority = FileManager.default.temporaryDirectory.appendingPathComponent("ca-\(UUID()).pem").path
        try Data(api.rootPEM).write(to: URL(fileURLWithPath: authority))
    }

    /// What commands print that find URL, authority and key in their environment.
    func shell(_ commands: String, key: String) async throws -> String {
        try await output(
            ["30", "sh", "-e", "-c", commands],
            environment: [
                "PATH": ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin",
                "ZEGEL_CA": authority, "ZEGEL_KEY": key, "ZEGEL_URL": "https://localhost:\(port)",
            ], errorsToo: false)
    }

    /// What a command under a time limit prints. It is waited for outside the threads that tasks share: the server needs those.
    private func output(_ arguments: [String], environment: [String: String]?, errorsToo: Bool) async throws
        -> String
    {
        try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global().async {
                let process = Process()
                process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
                process.arguments = arguments
                if let environment { process.environment = environment }
                let output = Pipe()
                process.standardOutput = output
                if errorsToo { process.standardError = output }
                do {
                    try process.run()
                } catch {
                    return continuation.resume(throwing: error)
                }
                let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
                process.waitUntilExit()
                continuation.resume(returning: text)
            }
        }
    }

    func get(_ path: String, key: String?, _ fields: [String] = []) async throws -> Answer {
        let text = try await output(
            ["60", "curl", "-sS", "-i", "--http1.1", "--cacert", authority]
                + (key.map { ["-H", "Authorization: Bearer \($0)"] } ?? [])
                + fields.flatMap { ["-H", $0] }
                + ["https://localhost:\(port)\(path)"], environment: nil, errorsToo: true)
        guard let end = text.range(of: "\r\n\r\n") else { throw FixtureError(description: "curl: \(text)") }
        let lines = text[..<end.lowerBound].split(separator: "\r\n")
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(
                in: .whitespaces)
        }
        let status = lines.first?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return Answer(status: status, headers: headers, body: String(text[end.upperBound...]))
    }
}
