// Where a keyring's keys are asked for: it checks the purpose against what the asker may, and writes an audit record of
// every use, allowed or not: who, when, key, epoch, context, request. Never key bytes, never personal data.

import Foundation
import Logging

/// Who asks.
public struct KeyringPeer: Sendable, Hashable {
    /// Process id, as the kernel told.
    public var processID: Int32
    /// User id, as the kernel told.
    public var userID: UInt32
    /// The socket's name, such as `worker`.
    public var socket: String

    /// Makes a value.
    public init(processID: Int32, userID: UInt32, socket: String) {
        self.processID = processID
        self.userID = userID
        self.socket = socket
    }
}

/// Answers requests of one kind of asker.
struct KeyringDesk: Sendable {
    let keyring: Keyring
    let purposes: Set<KeyPurpose>
    let audit: Logger

    func open(
        _ wrapped: WrappedBatchKey, of batch: BatchKeyContext, request: UUID, peer: KeyringPeer
    ) -> Result<SecretBytes, KeyServiceError> {
        let result: Result<SecretBytes, KeyServiceError>
        do throws(KeyServiceError) {
            guard purposes.contains(batch.purpose) else { throw .denied }
            result = .success(try keyring.open(wrapped, of: batch))
        } catch {
            result = .failure(error)
        }
        // Written before the key leaves: a use that is not on record did not happen.
        record(result, wrapped, batch, request, peer)
        return result
    }

    func recordRefusedPeer(_ peer: KeyringPeer) {
        audit.warning(
            "peer refused",
            metadata: [
                "uid": "\(peer.userID)", "pid": "\(peer.processID)", "socket": "\(peer.socket)",
                "outcome": "denied",
            ])
    }

    private func record(
        _ result: Result<SecretBytes, KeyServiceError>, _ wrapped: WrappedBatchKey, _ batch: BatchKeyContext,
        _ request: UUID, _ peer: KeyringPeer
    ) {
        var level = Logger.Level.info
        var outcome = "opened"
        if case .failure(let error) = result {
            level = .warning
            outcome =
                switch error {
                case .unavailable: "unavailable"
                case .denied: "denied"
                case .destroyed: "destroyed"
                case .malformed: "malformed"
                }
        }
        audit.log(
            level: level, "region key used",
            metadata: [
                "outcome": "\(outcome)", "uid": "\(peer.userID)", "pid": "\(peer.processID)",
                "socket": "\(peer.socket)", "key": "\(wrapped.keyID)", "purpose": "\(batch.purpose.rawValue)",
                "epoch": "\(batch.epoch)", "tenant": "\(batch.tenant)", "batch": "\(batch.id)",
                "request": "\(request)",
            ])
    }
}

/// A keyring in the asker's own process: for recovery tools and tests. Audited like any other use.
public struct LocalKeyService: KeyService {
    private let desk: KeyringDesk
    private let peer: KeyringPeer

    /// Serves these purposes from `keyring`.
    public init(keyring: Keyring, purposes: Set<KeyPurpose>, audit: Logger) {
        desk = KeyringDesk(keyring: keyring, purposes: purposes, audit: audit)
        peer = KeyringPeer(
            processID: ProcessInfo.processInfo.processIdentifier, userID: geteuid(), socket: "local")
    }

    /// Opens a wrapped batch key.
    public func unwrap(
        _ wrapped: WrappedBatchKey, of batch: BatchKeyContext
    ) async throws(KeyServiceError) -> SecretBytes {
        try desk.open(wrapped, of: batch, request: UUIDv7.make(at: Date()), peer: peer).get()
    }
}
