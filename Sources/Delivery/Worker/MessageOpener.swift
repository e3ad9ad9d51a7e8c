// Opens what a claim brought: batch keys, message keys, envelope and addresses; and fetches the contents of small messages in
// one go, within a bound of bytes. A key service that is away opens nothing: those claims go back as they came.

import Foundation
import Ledger
import Logging
import SMTP
import Sealing
import Synchronization

/// What became of the deliveries of one claim.
struct OpenedClaims: Sendable {
    /// Ready to be delivered.
    var ready: [PreparedDelivery] = []
    /// Their keys cannot be had now; with why.
    var locked: [ClaimedDelivery] = []
    /// Why the first of those could not be opened.
    var lockedReason: String?
    /// What is stored is not what was sealed, or its key is destroyed.
    var broken: [BrokenClaim] = []
}

/// A claimed delivery that cannot be opened, now or later.
struct BrokenClaim: Sendable {
    /// The reason.
    enum Fault: Sendable {
        /// Altered, or of another message.
        case integrityFailure
        /// The key's epoch is destroyed.
        case keyDestroyed
    }

    let claim: ClaimedDelivery
    let fault: Fault
    /// The metadata's key, if that much could be opened: seals the event's detail.
    let metadataKey: MessageKey?
}

/// Opens claimed deliveries of one shard.
final class MessageOpener: Sendable {
    /// Largest content that is fetched with its claim, in bytes.
    static let smallContent: Int64 = 256 << 10
    /// Most content kept in memory for deliveries that have not begun, in bytes.
    static let fetchedBytes = 64 << 20
    /// Batch key records kept.
    static let records = 4096

    private let ledger: WorkLedger
    private let keys: BatchKeyOpener
    private let logger: Logger
    private let known = Mutex<[UUID: BatchKeyRecord]>([:])
    private let budget = ContentBudget(bytes: MessageOpener.fetchedBytes)

    init(ledger: WorkLedger, keys: BatchKeyOpener, logger: Logger) {
        self.ledger = ledger
        self.keys = keys
        self.logger = logger
    }

    /// Opens what `worker` claimed. Throws only when the ledger does not answer; nothing was done then.
    func open(_ claims: [ClaimedDelivery], worker: UUID) async throws -> OpenedClaims {
        async let contents = fetchSmall(claims)
        let records = try await records(of: claims)
        let frames = try await contents
        var opened = OpenedClaims()
        for claim in claims { await open(claim, worker, records, frames, &opened) }
        return opened
    }

    private func fetchSmall(_ claims: [ClaimedDelivery]) async throws -> [UUID: FetchedFrames] {
        // A message of several deliveries may be claimed more than once: its content is fetched once.
        var shares: [UUID: ContentBudget.Share] = [:]
        for claim in claims where claim.size <= Self.smallContent && claim.frames > 0 {
            guard shares[claim.reference.message] == nil else { continue }
            guard let share = budget.take(Int(claim.size)) else { break }
            shares[claim.reference.message] = share
        }
        if shares.isEmpty { return [:] }
        var fetched: [UUID: FetchedFrames] = [:]
        fetched.reserveCapacity(shares.count)
        for (message, frames) in try await ledger.content(of: Array(shares.keys)) {
            if let share = shares[message] { fetched[message] = FetchedFrames(frames: frames, share: share) }
        }
        return fetched
    }

    private func records(of claims: [ClaimedDelivery]) async throws -> [UUID: BatchKeyRecord] {
        var wanted: Set<UUID> = []
        for claim in claims {
            wanted.insert(claim.contentKey.batchKeyID)
            wanted.insert(claim.metadataKey.batchKeyID)
        }
        var found: [UUID: BatchKeyRecord] = [:]
        let missing = known.withLock { known in
            wanted.filter { id in
                guard let record = known[id] else { return true }
                found[id] = record
                return false
            }
        }
        if missing.isEmpty { return found }
        for row in try await ledger.batchKeys(Array(missing)) {
            guard let purpose = KeyPurpose(rawValue: row.purpose) else { continue }
            found[row.id] = BatchKeyRecord(
                id: row.id, tenant: row.tenant, purpose: purpose, epoch: row.epoch, createdAt: row.createdAt,
                wrapped: row.wrapped)
        }
        let all = found
        known.withLock { known in
            if known.count + missing.count > Self.records { known.removeAll(keepingCapacity: true) }
            for id in missing { known[id] = all[id] }
        }
        return found
    }

    private func open(
        _ claim: ClaimedDelivery, _ worker: UUID, _ records: [UUID: BatchKeyRecord],
        _ frames: [UUID: FetchedFrames], _ opened: inout OpenedClaims
    ) async {
        var metadataKey: MessageKey?
        do {
            let metadata = try await key(claim, .metadata, claim.metadataKey, records)
            metadataKey = metadata
            var content: MessageKey?
            do { content = try await key(claim, .content, claim.contentKey, records) } catch {
                // Nothing of it is sent, and it may be gone for good.
                let isGone = error as? KeyServiceError == .destroyed || error is SealingError
                guard claim.isReturned, isGone || error as? KeyServiceError == .malformed else { throw error }
            }
            let (envelope, recipients) = try Self.openEnvelope(claim, metadata)
            let facts = DeliveryFacts(
                acceptedAt: claim.acceptedAt, attempt: claim.attempts + 1,
                possibleDuplicate: claim.possibleDuplicate, delayReported: claim.delayReported,
                isNotification: claim.reportsOn != nil, hasSender: envelope.reversePath != .null,
                recipients: recipients)
            opened.ready.append(
                PreparedDelivery(
                    worker: worker, claim: claim, envelope: envelope, facts: facts, contentKey: content,
                    metadataKey: metadata, frames: frames[claim.reference.message]))
        } catch let error as KeyServiceError {
            switch error {
            case .destroyed:
                opened.broken.append(
                    BrokenClaim(claim: claim, fault: .keyDestroyed, metadataKey: metadataKey))
            case .malformed:
                opened.broken.append(
                    BrokenClaim(claim: claim, fault: .integrityFailure, metadataKey: metadataKey))
            case .unavailable, .denied:
                opened.locked.append(claim)
                if opened.lockedReason == nil { opened.lockedReason = error.description }
            }
        } catch is CancellationError {
            opened.locked.append(claim)
        } catch {
            logger.error(
                "a claimed delivery does not open",
                metadata: ["message_id": "\(claim.reference.message)", "error": "\(error)"])
            opened.broken.append(
                BrokenClaim(claim: claim, fault: .integrityFailure, metadataKey: metadataKey))
        }
    }

    private func key(
        _ claim: ClaimedDelivery, _ purpose: KeyPurpose, _ reference: KeyReference,
        _ records: [UUID: BatchKeyRecord]
    ) async throws -> MessageKey {
        guard let record = records[reference.batchKeyID] else { throw SealingError.integrityFailure }
        return try await keys.messageKey(
            record: record, wrapped: WrappedMessageKey(reference),
            context: SealingContext(tenant: claim.tenant, message: claim.reference.message, purpose: purpose))
    }

    private static func openEnvelope(
        _ claim: ClaimedDelivery, _ key: MessageKey
    ) throws -> (Envelope, [DeliveryFacts.Recipient]) {
        let envelope = try Envelope(
            decoding: SealedField.open(
                claim.sealedEnvelope, key: key, context: key.context, field: SealedField.envelope))
        let recipients = try claim.recipients.map { recipient in
            DeliveryFacts.Recipient(
                number: recipient.number,
                envelope: try EnvelopeRecipient(
                    decoding: SealedField.open(
                        recipient.sealedAddress, key: key, context: key.context,
                        field: SealedField.address(recipient.number))))
        }
        return (envelope, recipients)
    }
}
