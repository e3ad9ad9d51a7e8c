// What all regions of a local cluster have in common: passwords, the demo tenant, the pinned root, the authority. Made once, before
// any region starts.

import Crypto
import Foundation
import Ledger

/// The secrets of a local cluster.
struct ClusterIdentity: Sendable {
    /// Names of database roles that nodes log in as.
    static let roles = ["zegel_edge", "zegel_worker", "zegel_api", "zegel_admin"]

    let layout: ClusterLayout
    /// By database role.
    let passwords: [String: String]
    let demo: DemoTenant
    /// Signs key sets.
    let root: Curve25519.Signing.PrivateKey
    let authority: LocalAuthority
    /// Who an operator is to Patroni.
    let operatorIdentity: LocalAuthority.Identity

    /// Reads them, and makes what is missing. Two processes at once must not: whoever starts regions does it first.
    init(_ layout: ClusterLayout, _ plan: ClusterPlan) throws(ClusterError) {
        self.layout = layout
        for folder in [
            layout.secrets, layout.config, layout.logs, layout.directory + "/nodes",
            layout.directory + "/keyring",
        ] {
            try ClusterFiles.folder(folder, mode: 0o700)
        }
        for folder in [layout.certificates, layout.sockets] { try ClusterFiles.folder(folder, mode: 0o755) }
        try ClusterFiles.ownFolder(layout.sockets)
        var passwords: [String: String] = [:]
        for role in Self.roles + [LedgerSite.superuser] {
            passwords[role] = try ClusterFiles.keptSecret(layout.password(of: role))
        }
        self.passwords = passwords
        demo = try DemoTenant(layout: layout, ruleset: plan.ruleset)
        root = try Self.root(layout)
        authority = try LocalAuthority(folder: layout.certificates)
        operatorIdentity = try authority.identity("operator", names: ["localhost"], connects: true)
    }

    /// The password of a database role.
    func password(_ role: String) -> String { passwords[role] ?? "" }

    /// Who a region is to the others, in files that PostgreSQL's user can read.
    func member(_ region: RegionPlan, user: MachineUser?) throws(ClusterError) -> MemberIdentity {
        let name = PatroniConfiguration.commonName(of: region.name)
        let identity = try authority.identity(
            name, names: ["localhost"], addresses: [region.address], connects: true)
        if let user { chown(identity.key, user.uid, user.gid) }
        return MemberIdentity(
            certificate: identity.certificate, key: identity.key, authority: layout.authority)
    }

    private static func root(_ layout: ClusterLayout) throws(ClusterError) -> Curve25519.Signing.PrivateKey {
        let path = layout.secrets + "/root.key"
        if let text = try ClusterFiles.text(path) {
            guard let bytes = Data(base64Encoded: text),
                let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: bytes)
            else { throw ClusterError(.state, "\(path) is damaged") }
            return key
        }
        let key = Curve25519.Signing.PrivateKey()
        try ClusterFiles.write(key.rawRepresentation.base64EncodedString() + "\n", to: path)
        return key
    }
}

/// The tenant that a local cluster begins with.
struct DemoTenant: Sendable {
    static let id = "demo"
    static let domain = "demo.test"
    static let user = "demo"
    let password: String
    let key: APIKeyText
    let ruleset: String

    /// The files that its password and its API key are kept in: what is missing is made anew.
    static func secrets(_ layout: ClusterLayout) -> [String] {
        [layout.secrets + "/smtp.password", layout.secrets + "/api.key"]
    }

    init(layout: ClusterLayout, ruleset: String) throws(ClusterError) {
        self.ruleset = ruleset
        let paths = Self.secrets(layout)
        password = try ClusterFiles.keptSecret(paths[0])
        let keyPath = paths[1]
        if let text = try ClusterFiles.text(keyPath) {
            guard let kept = APIKeyText(text) else { throw ClusterError(.state, "\(keyPath) is damaged") }
            key = kept
        } else {
            key = APIKeyText(id: UUID(), secret: ClusterFiles.secret(bytes: 32))
            try ClusterFiles.write(key.text + "\n", to: keyPath)
        }
    }
}
