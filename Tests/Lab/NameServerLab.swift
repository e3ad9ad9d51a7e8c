// Real authoritative name servers (NSD) on loopback with zones that ldns signs, for tests of lookups and of whatever
// rests on them. One parent zone, `test.`, is signed and is the trust anchor; child zones are signed and delegated
// with a DS record, or not, or wrongly. A resolver forwards to it.

import Foundation

/// A zone below `test.` as a test wants it.
public struct LabZone: Sendable {
    /// How a zone is signed.
    public enum Signing: Sendable, Equatable {
        /// Signed, with its DS record in the parent.
        case signed
        /// Not signed, and the parent proves it.
        case unsigned
        /// Signed long ago; its signatures have ended.
        case expired
        /// Signed, and then the signature of one RRset altered.
        case altered(name: String, type: String)
    }

    /// The name, such as `good.test`.
    public let name: String
    /// How it is signed.
    public let signing: Signing
    /// Its records in zone-file form, names relative to the zone; SOA and NS are added. Nil: the server has the zone
    /// configured and no data for it, and answers SERVFAIL.
    public let records: String?

    /// - name: below `test`.
    /// - signing: how it is signed.
    /// - records: in zone-file form.
    public init(_ name: String, _ signing: Signing = .signed, _ records: String?) {
        self.name = name
        self.signing = signing
        self.records = records
    }
}

/// A running NSD with its zones. Stops with its last reference.
public final class NameServerLab: Sendable {
    /// Where it listens, on 127.0.0.1, UDP and TCP.
    public let port: UInt16
    /// The file with the DS record of `test.`
    public let trustAnchor: String
    private let folder: URL
    private let server: ChildProcess

    /// Signs the zones, writes the configuration and starts the server; it answers when this returns.
    public static func start(_ zones: [LabZone]) async throws -> NameServerLab {
        let folder = FileManager.default.temporaryDirectory.appending(path: "nsd-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var parent = soa("test") + "@ NS ns\nns A 127.0.0.1\n"
        var names = ["test"]
        for zone in zones {
            names.append(zone.name)
            // A zone within another one is delegated by that one's records, if at all.
            if zones.contains(where: { zone.name.hasSuffix("." + $0.name) }) { continue }
            parent += "\(zone.name). NS ns.\(zone.name).\nns.\(zone.name). A 127.0.0.1\n"
        }
        for delegation in try await write(zones, in: folder) { parent += delegation }
        let root = try await write(parent, LabZone("test", .signed, ""), in: folder)
        let anchor = folder.appending(path: "anchor")
        try root.write(to: anchor, atomically: true, encoding: .utf8)
        // A port that was free a moment ago may be taken by now: another try, a few times.
        for _ in 0..<8 {
            let port = try freePort()
            if let server = try await serve(names, port: port, in: folder) {
                return NameServerLab(port: port, trustAnchor: anchor.path, folder: folder, server: server)
            }
        }
        let log = try? String(contentsOf: folder.appending(path: "log"), encoding: .utf8)
        throw LabError("nsd does not start: \(log ?? "")")
    }

    private init(port: UInt16, trustAnchor: String, folder: URL, server: ChildProcess) {
        self.port = port
        self.trustAnchor = trustAnchor
        self.folder = folder
        self.server = server
    }

    deinit {
        server.signal(SIGTERM)
        try? FileManager.default.removeItem(at: folder)
    }

    /// Stops answering; questions then meet a closed port.
    public func stop() async {
        server.signal(SIGTERM)
        _ = await server.waitForExit(within: .seconds(5))
    }

    private static func soa(_ zone: String) -> String {
        "$ORIGIN \(zone).\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n"
    }

    /// Writes the files of zones, a few at a time, and gives the DS records for the parent.
    private static func write(_ zones: [LabZone], in folder: URL) async throws -> [String] {
        try await withThrowingTaskGroup(of: String.self) { group in
            var delegations: [String] = []
            for (number, zone) in zones.enumerated() {
                if number >= 4, let delegation = try await group.next() { delegations.append(delegation) }
                group.addTask {
                    guard let records = zone.records else { return "" }
                    return try await write(
                        soa(zone.name) + "@ NS ns\nns A 127.0.0.1\n" + records + "\n", zone, in: folder)
                }
            }
            for try await delegation in group { delegations.append(delegation) }
            return delegations
        }
    }

    /// Writes a zone's file, signed as wanted, and gives the DS records for the parent.
    private static func write(_ text: String, _ zone: LabZone, in folder: URL) async throws -> String {
        let zoneFile = folder.appending(path: "\(zone.name).zone")
        try text.write(to: zoneFile, atomically: true, encoding: .utf8)
        if zone.signing == .unsigned { return "" }
        let keys = folder.appending(path: "keys-\(zone.name)")
        try FileManager.default.createDirectory(at: keys, withIntermediateDirectories: true)
        try await ChildProcess.run(
            ["ldns-keygen", "-a", "ECDSAP256SHA256", "-k", zone.name], directory: keys.path)
        let files = try FileManager.default.contentsOfDirectory(atPath: keys.path)
        guard let file = files.first(where: { $0.hasSuffix(".ds") }) else {
            throw LabError("ldns-keygen made no key")
        }
        let key = keys.appending(path: file).deletingPathExtension().path
        let year = Calendar(identifier: .gregorian).component(.year, from: Date())
        let (from, to) = zone.signing == .expired ? (year - 3, year - 2) : (year - 1, year + 1)
        let signed = folder.appending(path: "\(zone.name).signed")
        try await ChildProcess.run([
            "ldns-signzone", "-n", "-i", "\(from)0101000000", "-e", "\(to)1231000000", "-f", signed.path,
            zoneFile.path, key,
        ])
        var lines = try String(contentsOf: signed, encoding: .utf8).split(separator: "\n").map(String.init)
        if case .altered(let name, let type) = zone.signing {
            let owner = name == "@" ? "\(zone.name)." : "\(name).\(zone.name)."
            for (index, line) in lines.enumerated()
            where line.hasPrefix("\(owner)\t") && line.contains("\tRRSIG\t\(type) ") {
                let space = line.lastIndex(of: " ") ?? line.startIndex
                let signature = line[line.index(after: space)...]
                lines[index] =
                    line[...space] + String(signature.prefix(40).reversed()) + signature.dropFirst(40)
            }
        }
        try (lines.joined(separator: "\n") + "\n").write(to: zoneFile, atomically: true, encoding: .utf8)
        return try String(contentsOfFile: key + ".ds", encoding: .utf8)
    }

    private static func serve(_ zones: [String], port: UInt16, in folder: URL) async throws -> ChildProcess? {
        var configuration = """
            server:
                ip-address: 127.0.0.1@\(port)
                username: ""
                chroot: ""
                database: ""
                zonesdir: "\(folder.path)"
                pidfile: "\(folder.path)/pid"
                xfrdfile: "\(folder.path)/xfrd"
                zonelistfile: "\(folder.path)/zones"
                server-count: 1
                hide-version: yes
            remote-control:
                control-enable: no

            """
        for zone in zones {
            configuration += "zone:\n    name: \"\(zone)\"\n    zonefile: \"\(zone).zone\"\n"
        }
        let file = folder.appending(path: "nsd.conf")
        try configuration.write(to: file, atomically: true, encoding: .utf8)
        let log = folder.appending(path: "log").path
        let server = try await ChildProcess.start(
            ["nsd", "-d", "-c", file.path], deathSignal: "TERM", output: log)
        do {
            try await eventually("nsd answers", within: .seconds(5)) {
                guard server.isRunning else { throw WaitExpired(description: "nsd ended") }
                return answers(port)
            }
            return server
        } catch is WaitExpired {
            server.signal(SIGKILL)
            return nil
        }
    }
}

/// A port of 127.0.0.1 on which nothing listened a moment ago, neither with TCP nor with UDP.
public func freePort() throws -> UInt16 {
    for _ in 0..<100 {
        let port = UInt16.random(in: 20_000..<32_000)
        if bindable(port, Int32(SOCK_STREAM.rawValue)), bindable(port, Int32(SOCK_DGRAM.rawValue)) {
            return port
        }
    }
    throw LabError("no free port")
}

private func loopback<Result>(
    _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
    }
}

private func bindable(_ port: UInt16, _ type: Int32) -> Bool {
    let descriptor = socket(AF_INET, type, 0)
    defer { close(descriptor) }
    return loopback(port) { bind(descriptor, $0, $1) } == 0
}

/// Whether a question over UDP is answered within 100 ms. A port that takes connections proves nothing: the kernel does that while
/// the server still reads its zones, and a resolver that is not answered at first takes the server for one without DNSSEC.
private func answers(_ port: UInt16) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
    defer { close(descriptor) }
    var limit = timeval(tv_sec: 0, tv_usec: 100_000)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    // RFC 1035 §4.1: id, one question; "test." SOA IN.
    let question: [UInt8] =
        [0x5A, 0x45, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0] + [4] + Array("test".utf8) + [0, 0, 6, 0, 1]
    guard loopback(port, { connect(descriptor, $0, $1) }) == 0,
        send(descriptor, question, question.count, 0) == question.count
    else { return false }
    var answer = [UInt8](repeating: 0, count: 512)
    return recv(descriptor, &answer, answer.count, 0) > question.count
}

/// A UDP port of 127.0.0.1 that takes questions and never answers.
public final class SilentNameServer: Sendable {
    /// Where it listens.
    public let port: UInt16
    private let descriptor: Int32

    /// Binds the port.
    public init() throws {
        let port = try freePort()
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        guard loopback(port, { bind(descriptor, $0, $1) }) == 0 else {
            close(descriptor)
            throw LabError("port \(port) is taken")
        }
        self.port = port
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }
}
