// What becomes of a message when no host of a recipient domain is good enough. The stricter an action, the fewer the places that a
// message can come to: `return` and `wait` keep it to the domain's own hosts, and `return` to those of this moment.
import Settings

/// Another way for what must not go to the hosts of its domain.
public struct Gateway: Sendable, Hashable {
    /// Where it is.
    public let address: HostPort
    /// The name of the ruleset that its connection is judged by.
    public let ruleset: String

    /// Takes the place and the name of a ruleset.
    public init(_ address: HostPort, ruleset: String) {
        self.address = address
        self.ruleset = ruleset
    }
}

/// What happens to a message whose recipient's server is not good enough.
public enum InsecureAction: Sendable, Hashable {
    /// It goes back to the sender with a notification that names the reason.
    case `return`
    /// It is tried again until a host is good enough or its time is over; the sender is told of the delay.
    case wait
    /// It goes to a gateway, judged on that connection under the gateway's ruleset.
    case route(Gateway)

    /// Whether this one lets a message go nowhere that `other` would not. Two gateways are two places.
    func isAtLeastAsStrict(as other: InsecureAction) -> Bool { self == other || rank > other.rank }

    /// The least strict of those that are at least as strict as both; of two gateways neither, so it waits.
    func joined(with other: InsecureAction) -> InsecureAction {
        if isAtLeastAsStrict(as: other) { return self }
        return other.isAtLeastAsStrict(as: self) ? other : .wait
    }

    private var rank: Int {
        switch self {
        case .route: 0
        case .wait: 1
        case .return: 2
        }
    }
}

extension InsecureAction: Codable {
    private enum CodingKeys: String, CodingKey { case gateway, ruleset }

    /// Reads `"return"`, `"wait"` or `{"gateway": "host:port", "ruleset": name}`.
    public init(from decoder: any Decoder) throws {
        if let container = try? decoder.singleValueContainer(), let text = try? container.decode(String.self)
        {
            switch text {
            case "return": self = .return
            case "wait": self = .wait
            default:
                throw DecodingError.dataCorruptedError(
                    in: container, debugDescription: "unknown action \(text)")
            }
            return
        }
        let container = try decoder.container(keyedBy: CodingKeys.self)
        guard let address = HostPort(try container.decode(String.self, forKey: .gateway)) else {
            throw DecodingError.dataCorruptedError(
                forKey: .gateway, in: container, debugDescription: "no host:port")
        }
        self = .route(Gateway(address, ruleset: try container.decode(String.self, forKey: .ruleset)))
    }

    /// Writes the same.
    public func encode(to encoder: any Encoder) throws {
        switch self {
        case .return:
            var container = encoder.singleValueContainer()
            try container.encode("return")
        case .wait:
            var container = encoder.singleValueContainer()
            try container.encode("wait")
        case .route(let gateway):
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(gateway.address.description, forKey: .gateway)
            try container.encode(gateway.ruleset, forKey: .ruleset)
        }
    }
}
