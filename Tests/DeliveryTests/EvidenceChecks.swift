// What must hold of the evidence of deliveries and refusals, checked on whatever a test has delivered and refused.

import Foundation
import Ledger
import SmartTLS
import Testing

extension WorkerLab {
    /// The evidence of these events, put together as the api does it.
    func evidence(of events: [SeenEvent]) async throws -> EvidenceFile {
        var entries: [EvidenceFile.Entry] = []
        var digests: [[UInt8]] = []
        for event in events where event.kind == "delivered" || event.kind == "refused" {
            let judgement = try #require(event.detail?.judgement, "\(event.kind) \(event.reason ?? "")")
            let delivery = DeliveryEvidence(
                message: event.message, recipient: try #require(event.recipient), event: event.id,
                kind: event.kind, judgement: judgement, reply: event.detail?.reply)
            entries.append(.init(delivery, digest: try #require(event.detail?.evidenceDigest)))
            digests.append(Judgement.octets(of: judgement))
        }
        let stored = try await EventLedger(shard: "a", pool: admin).evidence(digests)
        return try EvidenceFile(
            deliveries: entries, judgements: stored.judgements, certificates: stored.certificates)
    }

    /// It verifies, and altered by one bit anywhere it does not.
    ///
    /// - Parameter alterations: how many random bits are tried.
    func checkEvidence(of events: [SeenEvent], alterations: Int = 300) async throws {
        let octets = try await evidence(of: events).encoded()
        let file = try await EvidenceFile.verified(octets)
        #expect(file.deliveries.count == events.filter { ["delivered", "refused"].contains($0.kind) }.count)
        let seed = UInt64.random(in: .min ... .max)
        var state = seed
        for _ in 0..<alterations {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let bit = Int(truncatingIfNeeded: state >> 20) % (octets.count * 8)
            var altered = octets
            altered[bit / 8] ^= 1 << (bit % 8)
            await #expect(throws: EvidenceError.self, "seed \(seed), bit \(bit)") {
                try await EvidenceFile.verified(altered)
            }
        }
    }
}
