// Opens what is sealed in a restored shard, as workers do: through a key service, which this process runs for as long as a command
// needs it.

import Foundation
import Ledger
import Logging
import NIOPosix
import Observability
import SMTP
import Sealing

/// Opens seals with the keys of one region.
struct SealOpener: Sendable {
    private let keys: BatchKeyOpener
    private let records: [UUID: BatchKeyRecord]

    /// Does something with the key service of a region.
    /// - Parameters:
    ///   - keyring: the folder of its private keys.
    ///   - socket: where it is served meanwhile.
    ///   - audit: a file that gets a record of each use of a key.
    ///   - batchKeys: those that are needed.
    static func with<T: Sendable>(
        keyring: String, region: String, socket: String, audit: String, _ batchKeys: [BatchKeyRow],
        _ body: @Sendable (SealOpener) async throws -> T
    ) async throws(ClusterError) -> T {
        do {
            let group = MultiThreadedEventLoopGroup.singleton
            unlink(socket)
            let server = KeyringServer(
                keyring: try Keyring(directory: keyring, region: region),
                sockets: [
                    .init(
                        path: socket, name: "recovery", purposes: [.content, .metadata], userIDs: [geteuid()])
                ],
                audit: try LogBootstrap.file(audit, label: "zegel-recovery"), group: group)
            try await server.start()
            do {
                let client = try await KeyringClient(path: socket, group: group)
                let opener = SealOpener(client, region, batchKeys)
                let result: Result<T, any Error>
                do { result = .success(try await body(opener)) } catch { result = .failure(error) }
                await client.close()
                await server.stop()
                unlink(socket)
                return try result.get()
            } catch {
                await server.stop()
                throw error
            }
        } catch let error as ClusterError {
            throw error
        } catch {
            throw ClusterError(.state, "the keys in \(keyring): \(error)")
        }
    }

    private init(_ service: any KeyService, _ region: String, _ batchKeys: [BatchKeyRow]) {
        keys = BatchKeyOpener(service: service, region: region)
        records = Dictionary(
            batchKeys.compactMap { row in
                KeyPurpose(rawValue: row.purpose).map { purpose in
                    (
                        row.id,
                        BatchKeyRecord(
                            id: row.id, tenant: row.tenant, purpose: purpose, epoch: row.epoch,
                            createdAt: row.createdAt, wrapped: row.wrapped)
                    )
                }
            }, uniquingKeysWith: { first, _ in first })
    }

    /// Opens a message's key.
    /// - Throws: `KeyServiceError.destroyed` when its epoch is gone; `SealingError` when it is not what was sealed.
    func key(
        _ purpose: KeyPurpose, _ reference: KeyReference, message: UUID, tenant: String
    ) async throws -> MessageKey {
        guard let record = records[reference.batchKeyID] else { throw SealingError.integrityFailure }
        return try await keys.messageKey(
            record: record,
            wrapped: WrappedMessageKey(
                batchKeyID: reference.batchKeyID, index: reference.index, bytes: reference.wrapped),
            context: SealingContext(tenant: tenant, message: message, purpose: purpose))
    }

    /// A recipient's address, as events show it; nil: its key is destroyed, or it is not what was sealed.
    func address(_ recipient: SealedRecipient) async -> RecipientAddress? {
        guard
            let key = try? await key(
                .metadata, recipient.metadataKey, message: recipient.message, tenant: recipient.tenant),
            let bytes = try? SealedField.open(
                recipient.sealedAddress, key: key, context: key.context,
                field: SealedField.address(recipient.number)),
            let envelope = try? EnvelopeRecipient(decoding: bytes)
        else { return nil }
        return RecipientAddress(
            message: recipient.message, number: recipient.number, address: envelope.address.description)
    }

    /// What became of opening one seal.
    enum Outcome: Sendable, Equatable {
        /// It opened, and is what was sealed.
        case opened
        /// Its key is destroyed: nobody opens it again.
        case destroyed
        /// It did not open.
        case failed(String)
    }

    /// Opens a message's envelope, and its content where that is there, which is held against its digest.
    /// - Returns: of the envelope, and of the content; nil: there is none.
    func examine(_ message: SealedMessage) async -> (envelope: Outcome, content: Outcome?) {
        let envelope = await outcome {
            let key = try await key(
                .metadata, message.metadataKey, message: message.id, tenant: message.tenant)
            _ = try Envelope(
                decoding: SealedField.open(
                    message.sealedEnvelope, key: key, context: key.context, field: SealedField.envelope))
        }
        guard let reference = message.contentKey else { return (envelope, nil) }
        let content = await outcome {
            let key = try await key(.content, reference, message: message.id, tenant: message.tenant)
            var opener = FrameOpener(key: key, context: key.context)
            var hasher = ContentHasher()
            for frame in message.frames { hasher.update(try opener.open(frame).bytes) }
            try opener.finish()
            // Each is its own frame's proof; the digest is the whole one's.
            let digest = try KeyedDigest.content(hasher.finish(), key: key, context: key.context)
            guard digest == message.keyedDigest else { throw SealingError.integrityFailure }
        }
        return (envelope, content)
    }

    private func outcome(_ body: () async throws -> Void) async -> Outcome {
        do {
            try await body()
            return .opened
        } catch KeyServiceError.destroyed {
            return .destroyed
        } catch {
            return .failed("\(error)")
        }
    }
}
