// The settings `dns.…` as the resolver takes them.
import DNS
import Settings

extension DNSConfiguration {
    /// Whom to ask and what to trust, as configured.
    public init(_ settings: DNSSettings) {
        // The settings have checked the form of each forwarder, so none is lost here.
        let forwarders = settings.forwarders.compactMap { forwarder in
            IPAddress(forwarder.address).map {
                Forwarder(address: $0, port: UInt16(clamping: forwarder.port))
            }
        }
        let anchor: DNSConfiguration.TrustAnchor =
            switch settings.trustAnchor {
            case .none: .none
            case .root: .root
            case .file(let path): .file(path)
            }
        self.init(forwarders: forwarders, trustAnchor: anchor)
    }
}
