// From rows of the ledger to what the API shows.

import Foundation
import Ledger
import Observability
import Sealing

/// Builds bodies, opening what can be opened.
struct BodyWriter: Sendable {
    let opener: MetadataOpener

    /// The events of a page.
    /// - Parameter ledgers: by the shard's name, none behind the page.
    func events(_ items: [FeedItem], in ledgers: [String: EventLedger]) async throws -> [EventBody] {
        for (shard, items) in Dictionary(grouping: items, by: \.shard) {
            guard let ledger = ledgers[shard] else { continue }
            try await opener.prepare(Set(items.compactMap { $0.event.metadataKey?.batchKeyID }), in: ledger)
        }
        var keys: [UUID: MessageKey?] = [:]
        var bodies: [EventBody] = []
        bodies.reserveCapacity(items.count)
        for item in items {
            let event = item.event
            var key: MessageKey?
            if let message = event.message, let reference = event.metadataKey,
                let ledger = ledgers[item.shard],
                event.sealedAddress != nil || event.sealedDetail != nil
            {
                if let known = keys[message] {
                    key = known
                } else {
                    key = try await opener.key(of: message, tenant: event.tenant, reference, in: ledger)
                    keys[message] = .some(key)
                }
            }
            let address = event.sealedAddress.map { Sealed($0, number: event.recipient ?? 0) }
            bodies.append(
                body(event, shard: item.shard, cursor: item.cursor.text, key: key, address: address))
        }
        return bodies
    }

    /// A sealed address and what binds it.
    private struct Sealed {
        var bytes: [UInt8]
        var number: Int32
        init(_ bytes: [UInt8], number: Int32) {
            self.bytes = bytes
            self.number = number
        }
    }

    private func body(
        _ event: FeedEvent, shard: String, cursor: String?, key: MessageKey?, address: Sealed?
    ) -> EventBody {
        let recipient = address.flatMap { sealed in
            key.flatMap { opener.address(sealed.bytes, number: sealed.number, key: $0) }
        }
        let detail = event.sealedDetail.flatMap { sealed in
            key.flatMap { opener.detail(sealed, event: event.id, key: $0) }
        }
        let staysSealed = (address != nil && recipient == nil) || (event.sealedDetail != nil && detail == nil)
        return EventBody(
            id: event.id.uuidString.lowercased(), kind: event.kind.rawValue,
            messageID: event.message?.uuidString.lowercased(), recipient: recipient, tenant: event.tenant,
            shard: shard,
            at: Timestamp.text(event.at), reasonCode: event.reasonCode, cursor: cursor, detail: detail,
            possibleDuplicate: event.possibleDuplicate ? true : nil, sealed: staysSealed ? true : nil)
    }

    /// One message.
    func message(_ record: MessageRecord, in ledger: EventLedger) async throws -> MessageBody {
        let shard = ledger.shard
        let key = try await opener.key(of: record.id, tenant: record.tenant, record.metadataKey, in: ledger)
        let envelope = key.flatMap { opener.envelope(record.sealedEnvelope, key: $0) }
        let recipients = record.recipients.map { recipient in
            MessageBody.RecipientBody(
                number: Int(recipient.number),
                address: key.flatMap {
                    opener.address(recipient.sealedAddress, number: recipient.number, key: $0)
                },
                state: recipient.state)
        }
        let sealedAddresses = Dictionary(
            record.recipients.map { ($0.number, $0.sealedAddress) }, uniquingKeysWith: { first, _ in first })
        let events = record.events.map { event in
            body(
                event, shard: shard, cursor: nil, key: key,
                address: event.recipient.flatMap { number in
                    sealedAddresses[number].map { Sealed($0, number: number) }
                })
        }
        let isSealed = envelope == nil || recipients.contains { $0.address == nil }
        return MessageBody(
            id: record.id.uuidString.lowercased(), tenant: record.tenant, shard: shard,
            acceptedAt: Timestamp.text(record.acceptedAt), ruleset: record.ruleset, size: record.size,
            envelope: envelope.map {
                MessageBody.EnvelopeBody(
                    returnPath: $0.reversePath.address?.description ?? "",
                    body: $0.body == .eightBitMIME ? "8BITMIME" : "7BIT", smtpUTF8: $0.smtpUTF8,
                    requireTLS: $0.requireTLS, envelopeID: $0.envelopeID)
            },
            recipients: recipients,
            deliveries: record.openDeliveries.map {
                MessageBody.DeliveryBody(
                    number: Int($0.number), domain: $0.lane, state: $0.state, due: Timestamp.text($0.due),
                    attempts: Int($0.attempts))
            },
            events: events, reportsOn: record.reportsOn?.uuidString.lowercased(),
            withdrawnAt: record.withdrawnAt.map(Timestamp.text),
            shreddedAt: record.shreddedAt.map(Timestamp.text),
            sealed: isSealed ? true : nil)
    }
}
