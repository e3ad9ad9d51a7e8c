// Which deliveries heed and ask for scans, by ruleset and configuration. What they get is `HostScans`'s word.

import Policy
import Settings
import SmartTLS

/// The way of deliveries to scans.
struct ScanDesk: Sendable {
    private let scans: HostScans
    private let hosts: ScanHosts

    /// - hosts: which of them are scanned (`scan.hosts`).
    init(_ scans: HostScans, hosts: ScanHosts) {
        (self.scans, self.hosts) = (scans, hosts)
    }

    private func isFor(_ ruleset: Ruleset) -> Bool {
        switch hosts {
        case .off: false
        case .ruleset: ruleset.scan != nil
        case .all: true
        }
    }

    /// A connection is about to be made: what is not known of its host is read meanwhile.
    func prepare(_ site: ScanSite, _ ruleset: Ruleset) async {
        if isFor(ruleset) { await scans.prepare(site) }
    }

    /// The scan that counts for a connection under a ruleset; nil: there is none, or the ruleset heeds none. The host is noted for
    /// scanning either way.
    ///
    /// - sighting: what the connection showed; nil: no TLS.
    func counting(for site: ScanSite, _ sighting: ScanSighting?, _ ruleset: Ruleset) async -> HeldScan? {
        guard let sighting, isFor(ruleset) else { return nil }
        let scan = await scans.counting(for: site, sighting, waits: ruleset.scan != nil)
        return ruleset.scan == nil ? nil : scan
    }
}
