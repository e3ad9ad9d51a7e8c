// The judgement of a host as evidence: encoded once for all messages that rest on it.

import Foundation
import Ledger
import SmartTLS
import TLS

/// A judgement ready to be stored, and its digest as events name it.
struct SiteJudgement: Sendable {
    /// SHA-256 in hexadecimal.
    let digest: String
    /// What is stored.
    let row: JudgementRow

    /// Encodes a judgement with the certificates that the connection showed.
    init(_ judgement: Judgement, peer: PeerEvidence?) throws {
        let (octets, digest) = try judgement.encoded()
        self.digest = digest
        row = JudgementRow(
            digest: Judgement.octets(of: digest),
            madeAt: Date(timeIntervalSince1970: Double(judgement.madeAt) / 1000), body: octets,
            certificates: Dictionary(
                Judgement.certificates(of: peer).map { (Judgement.octets(of: $0.key), $0.value) },
                uniquingKeysWith: { one, _ in one }))
    }
}
