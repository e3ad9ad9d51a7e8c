// Opens what the API may see of a message: addresses, envelope, details of events. Metadata keys only, and never an
// error of the request: what cannot be opened now is shown as sealed.

import Foundation
import Ledger
import Logging
import SMTP
import Sealing
import Synchronization

/// Opens sealed metadata through a key service, with a bounded cache of batch key records.
final class MetadataOpener: Sendable {
    /// How long the key service is left alone after it was away: one slow answer, not one for every event.
    static let holdOff = Duration.seconds(2)
    private static let recordLimit = 4096

    private struct State {
        var records: [UUID: BatchKeyRecord] = [:]
        var awayUntil: ContinuousClock.Instant?
    }

    private let opener: BatchKeyOpener
    private let logger: Logger
    private let state = Mutex(State())

    /// - Parameters:
    ///   - service: the key service on the API's socket; it opens metadata keys and refuses others.
    ///   - region: the region whose keys it holds.
    init(service: any KeyService, region: String, logger: Logger) {
        self.opener = BatchKeyOpener(service: service, region: region)
        self.logger = logger
    }

    /// The metadata key of a message, nil when it cannot be had now (or ever).
    func key(
        of message: UUID, tenant: String, _ reference: KeyReference, in ledger: EventLedger
    ) async throws -> MessageKey? {
        let isAway = state.withLock { $0.awayUntil.map { $0 > .now } ?? false }
        guard !isAway else { return nil }
        guard let record = try await record(reference.batchKeyID, in: ledger) else { return nil }
        do {
            return try await opener.messageKey(
                record: record,
                wrapped: WrappedMessageKey(
                    batchKeyID: reference.batchKeyID, index: reference.index, bytes: reference.wrapped),
                context: Self.context(message, tenant))
        } catch let error as KeyServiceError {
            if error != .destroyed {
                logger.warning("metadata stays sealed", metadata: ["reason": "\(error)"])
                state.withLock { $0.awayUntil = .now + Self.holdOff }
            }
            return nil
        } catch let error as SealingError {
            logger.error(
                "metadata key does not open", metadata: ["message_id": "\(message)", "reason": "\(error)"])
            return nil
        }
    }

    /// Fetches the records of `ids` that are not known yet, in one query.
    func prepare(_ ids: Set<UUID>, in ledger: EventLedger) async throws {
        let unknown = state.withLock { state in ids.filter { state.records[$0] == nil } }
        guard !unknown.isEmpty else { return }
        let rows = try await ledger.batchKeys(Array(unknown))
        state.withLock { state in
            // Records are small and asked for by time: starting over now and then costs one query.
            if state.records.count + rows.count > Self.recordLimit { state.records.removeAll() }
            for row in rows {
                guard let purpose = KeyPurpose(rawValue: row.purpose) else { continue }
                state.records[row.id] = BatchKeyRecord(
                    id: row.id, tenant: row.tenant, purpose: purpose, epoch: row.epoch,
                    createdAt: row.createdAt,
                    wrapped: row.wrapped)
            }
        }
    }

    private func record(_ id: UUID, in ledger: EventLedger) async throws -> BatchKeyRecord? {
        if let known = state.withLock({ $0.records[id] }) { return known }
        try await prepare([id], in: ledger)
        return state.withLock { $0.records[id] }
    }

    private static func context(_ message: UUID, _ tenant: String) -> SealingContext {
        SealingContext(tenant: tenant, message: message, purpose: .metadata)
    }

    /// A recipient's address, nil when it does not open.
    func address(_ sealed: [UInt8], number: Int32, key: MessageKey) -> String? {
        open(sealed, SealedField.address(number), key).flatMap {
            try? EnvelopeRecipient(decoding: $0).address.description
        }
    }

    /// The envelope, nil when it does not open.
    func envelope(_ sealed: [UInt8], key: MessageKey) -> Envelope? {
        open(sealed, SealedField.envelope, key).flatMap { try? Envelope(decoding: $0) }
    }

    /// An event's detail: the JSON that was sealed, or its text; nil when it does not open.
    func detail(_ sealed: [UInt8], event: UUID, key: MessageKey) -> JSONValue? {
        guard let bytes = open(sealed, SealedField.event(event), key) else { return nil }
        if let value = try? JSONDecoder().decode(JSONValue.self, from: Data(bytes)) { return value }
        return String(validating: bytes, as: UTF8.self).map { .string($0) }
    }

    private func open(_ sealed: [UInt8], _ field: String, _ key: MessageKey) -> [UInt8]? {
        do {
            return try SealedField.open(sealed, key: key, context: key.context, field: field)
        } catch {
            logger.error(
                "sealed field does not open",
                metadata: ["message_id": "\(key.context.message)", "field": "\(field)", "reason": "\(error)"])
            return nil
        }
    }
}
