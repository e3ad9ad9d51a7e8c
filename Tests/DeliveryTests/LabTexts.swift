// How tests over the whole way read events.

import SmartTLS

extension SeenEvent {
    /// Whether an attempt at a recipient ended with it.
    var endsAttempt: Bool { ["delivered", "deferred", "refused", "bounced"].contains(kind) }
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
