// The evidence of a message, gathered from its events and from the judgements that they name.

import Foundation
import Ledger
import SmartTLS

extension BodyWriter {
    /// The evidence of what became of a message; nil when nothing was delivered or refused yet, or its details are closed.
    ///
    /// - Throws: `EvidenceError` where what is stored is no evidence.
    func evidence(_ record: MessageRecord, in ledger: EventLedger) async throws -> EvidenceFile? {
        guard
            let key = try await opener.key(
                of: record.id, tenant: record.tenant, record.metadataKey, in: ledger)
        else { return nil }
        var deliveries: [EvidenceFile.Entry] = []
        var judgements: [String] = []
        for event in record.events {
            guard let recipient = event.recipient, let sealed = event.sealedDetail,
                let detail = opener.detail(sealed, event: event.id, key: key)?.members,
                let judgement = detail["judgement"]?.text, let digest = detail["evidence_digest"]?.text
            else { continue }
            // Whether it was the second to arrive the ledger found out after the worker had written its evidence.
            let kind = event.kind == .duplicate ? EventKind.delivered : event.kind
            let delivery = DeliveryEvidence(
                message: record.id, recipient: recipient, event: event.id, kind: kind.rawValue,
                judgement: judgement, reply: detail["reply"]?.text)
            deliveries.append(EvidenceFile.Entry(delivery, digest: digest))
            if !judgements.contains(judgement) { judgements.append(judgement) }
        }
        if deliveries.isEmpty { return nil }
        let stored = try await ledger.evidence(judgements.map(Judgement.octets(of:)))
        return try EvidenceFile(
            deliveries: deliveries, judgements: stored.judgements, certificates: stored.certificates)
    }
}

extension JSONValue {
    fileprivate var members: [String: JSONValue]? {
        if case .object(let members) = self { members } else { nil }
    }

    fileprivate var text: String? {
        if case .string(let text) = self { text } else { nil }
    }
}
