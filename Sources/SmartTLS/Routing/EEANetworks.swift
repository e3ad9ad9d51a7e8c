// Which addresses are outside the European Economic Area, as an operator configured it: no database of places is asked, and none knows.

import DNS
import Settings

/// The networks by which an address is inside or outside.
public struct EEANetworks: Sendable, Hashable {
    /// Said of an address that no network of a list of those inside holds.
    static let unlisted = "in none of nta.eea_networks"

    private let inside: [NetworkBlock]
    private let outside: [NetworkBlock]

    /// Takes the lists.
    ///
    /// - Parameters:
    ///   - inside: with any, every other address is outside.
    ///   - outside: also where they are part of one inside.
    public init(inside: [NetworkBlock] = [], outside: [NetworkBlock] = []) {
        (self.inside, self.outside) = (inside, outside)
    }

    /// As configured.
    public init(_ settings: NTASettings) {
        self.init(inside: settings.eeaNetworks, outside: settings.outsideNetworks)
    }

    /// By which network an address is outside, or that it is in none inside; nil: it is inside, or nobody says.
    func exclusion(of address: IPAddress) -> String? {
        let text = address.description
        if let network = outside.first(where: { $0.contains(text) }) { return network.description }
        return inside.isEmpty || inside.contains { $0.contains(text) } ? nil : Self.unlisted
    }

    /// Whether a recorded exclusion can be that of an address.
    static func holds(_ exclusion: String, for address: String) -> Bool {
        exclusion == unlisted || NetworkBlock(exclusion)?.contains(address) == true
    }
}
