// How good a parameter of a server is, in the four words of the NCSC's TLS guidelines.

/// A grade; the better one is the greater.
enum Grade: Int, Sendable, Hashable, Codable, Comparable, CaseIterable, CustomStringConvertible {
    /// Not to be used.
    case insufficient
    /// To be taken out of use.
    case phaseOut
    /// Can be used.
    case sufficient
    /// To be preferred.
    case good

    /// The worse first.
    static func < (left: Grade, right: Grade) -> Bool { left.rawValue < right.rawValue }

    /// As the guidelines write it.
    var description: String {
        switch self {
        case .insufficient: "insufficient"
        case .phaseOut: "phase out"
        case .sufficient: "sufficient"
        case .good: "good"
        }
    }
}
