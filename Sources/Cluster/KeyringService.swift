// Runs the embedded key service until a signal ends it.

import Foundation
import Logging
import NIOCore
import NIOPosix
import Sealing
import UnixSignals

/// A keyring and the sockets that it is served on.
public struct KeyringService: Sendable {
    /// The folder of the private keys.
    public let keys: String
    /// The region whose keys these are.
    public let region: String
    /// Who may ask what, and where.
    public let sockets: [KeyringServer.Socket]

    /// A keyring in `keys`.
    public init(keys: String, region: String, sockets: [KeyringServer.Socket]) {
        self.keys = keys
        self.region = region
        self.sockets = sockets
    }

    /// The keyring of a region of a local cluster: workers open content and metadata, the api metadata only.
    /// - Parameter name: the region; nil: the only one.
    public init(localClusterIn directory: String, region name: String? = nil) throws(ClusterError) {
        let layout = ClusterLayout(directory: directory)
        guard let plan = try ClusterPlan.load(layout.plan), let first = plan.regions.first else {
            throw ClusterError(.state, "there is no local cluster in \(layout.directory)")
        }
        let region = try name.map { (name) throws(ClusterError) in try plan.region(name) } ?? first
        let files = RegionLayout(layout, plan, region)
        let user: Set<UInt32> = [geteuid()]
        self.init(
            keys: files.keyring, region: region.name,
            sockets: [
                KeyringServer.Socket(
                    path: files.keyringSocket(.worker), name: "worker", purposes: [.content, .metadata],
                    userIDs: user),
                KeyringServer.Socket(
                    path: files.keyringSocket(.api), name: "api", purposes: [.metadata], userIDs: user),
            ])
    }

    /// Reads `PATH=NAME:PURPOSE[,PURPOSE][:UID[,UID]]`.
    public static func socket(_ text: String) throws(ClusterError) -> KeyringServer.Socket {
        let wrong = ClusterError(
            .usage,
            "--socket \(text): write it as PATH=NAME:PURPOSE[,PURPOSE][:UID[,UID]], purposes content and metadata"
        )
        guard let equals = text.lastIndex(of: "=") else { throw wrong }
        let path = String(text[..<equals])
        let parts = text[text.index(after: equals)...].split(separator: ":", omittingEmptySubsequences: false)
        guard (2...3).contains(parts.count), !parts[0].isEmpty, path.hasPrefix("/"), path.utf8.count <= 107
        else {
            throw wrong
        }
        let purposes = parts[1].split(separator: ",", omittingEmptySubsequences: false)
            .map { KeyPurpose(rawValue: String($0)) }
        let users =
            parts.count < 3
            ? [geteuid()]
            : parts[2].split(separator: ",", omittingEmptySubsequences: false).map { UInt32($0) }
        guard !purposes.contains(nil), !users.contains(nil) else { throw wrong }
        return KeyringServer.Socket(
            path: path, name: String(parts[0]), purposes: Set(purposes.compactMap { $0 }),
            userIDs: Set(users.compactMap { $0 }))
    }

    /// Serves until SIGTERM or SIGINT.
    public func run(logger: Logger) async throws {
        let keyring = try Keyring(directory: keys, region: region)
        let server = KeyringServer(
            keyring: keyring, sockets: sockets, audit: logger, group: MultiThreadedEventLoopGroup.singleton)
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        try await server.start()
        logger.info(
            "the keyring is served", metadata: ["region": "\(region)", "sockets": "\(sockets.count)"])
        for await _ in signals { break }
        await server.stop()
    }
}
