// Writes down what an attempt led to: seals event details under the message's metadata key, seals notifications like any other
// message, and makes of it the one completion that the ledger commits or does not.

import Foundation
import Ledger
import Policy
import SMTP
import Sealing
import SmartTLS

/// Makes completions.
struct Scribe: Sendable {
    /// Our own host: Reporting-MTA, and the sender of notifications where the tenant has no domain to use.
    let reportingHost: String
    let sealer: SealerBox

    /// The completion of an attempt.
    /// - Parameter header: the first bytes of the content, for the notification's copy of the header.
    /// - Throws: `SealingError` when a notification is due and cannot be sealed: the delivery must not end then.
    func completion(
        _ delivery: PreparedDelivery, _ settlement: Settlement, header: [UInt8], now: Date
    ) throws(SealingError) -> Completion {
        var events: [EventRow] = []
        events.reserveCapacity(settlement.events.count + 2)
        var judgements: [JudgementRow] = []
        for event in settlement.events {
            if let judgement = event.judgement,
                !judgements.contains(where: { $0.digest == judgement.row.digest })
            {
                judgements.append(judgement.row)
            }
            events.append(
                try row(
                    delivery, event.recipient, event.kind, event.reason, event.possibleDuplicate,
                    event.detail, event.judgement, now: now))
        }
        var notifications: [NotificationRow] = []
        if !settlement.reports.isEmpty {
            let (message, accepted) = try notification(delivery, settlement.reports, header, now: now)
            notifications.append(NotificationRow(message: message, batchKeys: []))
            for report in settlement.reports {
                var detail = EventDetail()
                detail.relatedMessage = message.id
                detail.status = report.status.description
                events.append(
                    try row(
                        delivery, report.recipient.number, .notified, report.reason, false, detail, now: now))
            }
            events.append(accepted)
        }
        return Completion(
            reference: delivery.claim.reference, deliveriesOfMessage: delivery.claim.deliveries,
            tenant: delivery.claim.tenant, ended: settlement.ended, step: settlement.step, events: events,
            notifications: notifications, judgements: judgements, shreddedEventID: UUIDv7.make(at: now))
    }

    /// The completion of a message whose bytes were taken in before, as `first`, which another shard delivers.
    func replay(_ delivery: PreparedDelivery, of first: UUID, now: Date) throws(SealingError) -> Completion {
        var detail = EventDetail()
        detail.relatedMessage = first
        var events: [EventRow] = []
        for recipient in delivery.facts.recipients {
            events.append(
                try row(delivery, recipient.number, .duplicate, .replayed, false, detail, now: now))
        }
        return Completion(
            reference: delivery.claim.reference, deliveriesOfMessage: delivery.claim.deliveries,
            tenant: delivery.claim.tenant,
            ended: delivery.facts.recipients.map { EndedRecipient(number: $0.number, state: .duplicate) },
            step: .ends, events: events, shreddedEventID: UUIDv7.make(at: now))
    }

    /// The completion of a claim that cannot be opened: held, whoever of its recipients is open.
    func held(_ broken: BrokenClaim, now: Date) -> Completion {
        let claim = broken.claim
        let reason: ReasonCode = broken.fault == .keyDestroyed ? .keyDestroyed : .integrityFailure
        let events = claim.recipients.map { recipient in
            let id = UUIDv7.make(at: now)
            var detail = EventDetail()
            detail.attempt = claim.attempts + 1
            let sealed = broken.metadataKey.flatMap { key in
                try? SealedField.seal(
                    detail.encoded(), key: key, context: key.context, field: SealedField.event(id))
            }
            return EventRow(
                id: id, tenant: claim.tenant, message: claim.reference.message, recipient: recipient.number,
                kind: .held, at: now, reasonCode: reason.rawValue, possibleDuplicate: claim.possibleDuplicate,
                sealedDetail: sealed)
        }
        return Completion(
            reference: claim.reference, deliveriesOfMessage: claim.deliveries, tenant: claim.tenant,
            ended: [],
            step: .hold(possibleDuplicate: false, delayReported: claim.delayReported), events: events,
            shreddedEventID: UUIDv7.make(at: now))
    }

    private func row(
        _ delivery: PreparedDelivery, _ recipient: Int32?, _ kind: EventKind, _ reason: ReasonCode,
        _ possibleDuplicate: Bool, _ detail: EventDetail, _ judgement: SiteJudgement? = nil, now: Date
    ) throws(SealingError) -> EventRow {
        let id = UUIDv7.make(at: now)
        var detail = detail
        if let judgement, let recipient {
            let evidence = DeliveryEvidence(
                message: delivery.claim.reference.message, recipient: recipient, event: id,
                kind: kind.rawValue, judgement: judgement.digest, reply: detail.reply)
            detail.judgement = judgement.digest
            detail.evidenceDigest = evidence.digest
        }
        let sealed = try SealedField.seal(
            detail.encoded(), key: delivery.metadataKey, context: delivery.metadataKey.context,
            field: SealedField.event(id))
        return EventRow(
            id: id, tenant: delivery.claim.tenant, message: delivery.claim.reference.message,
            recipient: recipient,
            kind: kind, at: now, reasonCode: reason.rawValue, possibleDuplicate: possibleDuplicate,
            sealedDetail: sealed)
    }

    /// A notification to the reverse path, as a message of its own, and its `accepted` event.
    private func notification(
        _ delivery: PreparedDelivery, _ reports: [Settlement.Report], _ header: [UInt8], now: Date
    ) throws(SealingError) -> (MessageRow, EventRow) {
        guard let sender = delivery.envelope.reversePath.address else {
            throw .misuse("a notification to the null reverse path")
        }
        let id = UUIDv7.make(at: now)
        let report = DeliveryStatusNotification(
            reportingHost: reportingHost,
            fromDomain: sender.domain.isAddressLiteral ? reportingHost : sender.lane,
            reversePath: sender.description, envelopeID: delivery.envelope.envelopeID,
            arrival: delivery.claim.acceptedAt,
            recipients: reports.map { report in
                DeliveryStatusNotification.Recipient(
                    address: report.recipient.envelope.address.description,
                    originalRecipient: report.recipient.envelope.originalRecipient, action: report.action,
                    status: report.status, explanation: report.explanation,
                    reasonCode: report.reason.rawValue,
                    remoteHost: report.host,
                    diagnostic: report.diagnostic, lastAttempt: now, willRetryUntil: report.willRetryUntil)
            }, originalHeader: header
        ).encoded(date: now, identifier: id)
        let envelope = Envelope(
            reversePath: .null, body: report.needsSMTPUTF8 ? .eightBitMIME : .sevenBit,
            smtpUTF8: report.needsSMTPUTF8, requireTLS: delivery.envelope.requireTLS)
        // RFC 3461 §6.3: a notification never asks for one.
        let recipient = EnvelopeRecipient(address: sender, notify: .never)
        return try seal(delivery, id, report.bytes, envelope, recipient, now: now)
    }

    private func seal(
        _ delivery: PreparedDelivery, _ id: UUID, _ bytes: [UInt8], _ envelope: Envelope,
        _ recipient: EnvelopeRecipient, now: Date
    ) throws(SealingError) -> (MessageRow, EventRow) {
        let tenant = delivery.claim.tenant
        let content = SealingContext(tenant: tenant, message: id, purpose: .content)
        let metadata = SealingContext(tenant: tenant, message: id, purpose: .metadata)
        let (contentKey, wrappedContent) = try sealer.messageKey(content, now: now)
        let (metadataKey, wrappedMetadata) = try sealer.messageKey(metadata, now: now)
        var frames: [[UInt8]] = []
        var sealer = try FrameSealer(key: contentKey, context: content)
        var index = 0
        repeat {
            let end = min(index + sealer.frameSize, bytes.count)
            frames.append(try sealer.seal(Array(bytes[index..<end]), isLast: end == bytes.count))
            index = end
        } while index < bytes.count
        var hasher = ContentHasher()
        hasher.update(bytes)
        let digest = try KeyedDigest.content(hasher.finish(), key: contentKey, context: content)
        let accepted = UUIDv7.make(at: now)
        var detail = EventDetail()
        detail.relatedMessage = delivery.claim.reference.message
        let row = MessageRow(
            id: id, tenant: tenant, acceptedAt: now, ruleset: delivery.claim.ruleset,
            size: Int64(bytes.count),
            keyedDigest: digest, contentKey: KeyReference(wrappedContent),
            metadataKey: KeyReference(wrappedMetadata),
            sealedEnvelope: try SealedField.seal(
                envelope.encoded(), key: metadataKey, context: metadata, field: SealedField.envelope),
            frames: frames, frameCount: Int32(frames.count),
            deliveries: [DeliveryRow(number: 0, lane: recipient.address.lane)],
            recipients: [
                RecipientRow(
                    number: 0, delivery: 0,
                    sealedAddress: try SealedField.seal(
                        recipient.encoded(), key: metadataKey, context: metadata,
                        field: SealedField.address(0)))
            ], replayTag: nil, reportsOn: delivery.claim.reference.message)
        let event = EventRow(
            id: accepted, tenant: tenant, message: id, recipient: 0, kind: .accepted, at: now,
            sealedDetail: try SealedField.seal(
                detail.encoded(), key: metadataKey, context: metadata, field: SealedField.event(accepted)))
        return (row, event)
    }
}
