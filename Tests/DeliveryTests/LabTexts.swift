// How tests over the whole way read events and write records.

import SmartTLS
import TLS

extension SeenEvent {
    /// Whether an attempt at a recipient ended with it.
    var endsAttempt: Bool { ["delivered", "deferred", "refused", "bounced"].contains(kind) }
}

extension TLSARecord {
    /// As in a zone file.
    var zoneText: String {
        let digits = data.map { octet in (octet < 16 ? "0" : "") + String(octet, radix: 16) }
        return "\(usage) \(selector) \(matchingType) \(digits.joined())"
    }
}

extension Verdict.Outcome {
    /// The event that a delivery under it ends in.
    var event: String {
        switch self {
        case .deliver: "delivered"
        case .defer: "deferred"
        case .refuse: "refused"
        }
    }
}
