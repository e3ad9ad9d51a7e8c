// Writes the settings file of each node of a local cluster.

import Foundation
import Settings

/// What the nodes of a local cluster are told.
struct NodeConfiguration: Sendable {
    /// One `key: value` line.
    typealias Entry = (key: String, value: String)

    /// How the ledger is reached.
    let site: LedgerSite
    /// The nodes' region.
    let region: RegionPlan
    /// Where its files lie.
    let layout: RegionLayout
    /// The pinned root of key sets, base64.
    let rootPublic: String
    /// Passwords by database role.
    let passwords: [String: String]
    /// The certificate of edges and api.
    let identity: LocalAuthority.Identity

    /// The settings of one node, those of the plan last.
    func entries(_ node: NodePlan) -> [Entry] {
        func address(_ use: String) -> String { "\(region.address):\(node.ports[use] ?? 0)" }
        let role = "zegel_\(node.role.rawValue)"
        var entries: [Entry] = [
            ("node.name", node.name), ("node.region", region.name),
            ("node.data_dir", layout.cluster.directory + "/nodes/" + node.name),
            ("metrics.listen", address("metrics")), ("keys.root_public", rootPublic),
            // Less than what the supervisor grants before it kills.
            ("node.shutdown_grace", node.role == .api ? "3s" : "7s"),
        ]
        entries += Self.ledger(site.plan.shards.map(\.name), isReader: node.role == .api) { shard, target in
            site.conninfo(
                shard, from: region, role: role, password: passwords[role] ?? "", target: target)
        }
        if site.plan.isReplicated, node.role != .api {
            entries += Self.patronis(site.topology, from: region.name, authority: layout.cluster.authority)
        }
        switch node.role {
        case .edge:
            entries += [
                ("edge.listen", address("smtp")), ("edge.listen_tls", address("smtps")),
                ("edge.hostname", "localhost"),
                ("edge.certificate", identity.certificate), ("edge.key", identity.key),
            ]
        case .worker:
            entries += [("keyring.socket", layout.keyringSocket(.worker))]
            entries += [("dns.trust_anchor", "none")]
        case .api:
            entries += [
                ("api.listen", address("https")), ("api.certificate", identity.certificate),
                ("api.key", identity.key),
                ("keyring.socket", layout.keyringSocket(.api)), ("dns.trust_anchor", "none"),
            ]
        case .keyring, .postgres, .supervisor, .patroni, .etcd, .guard:
            break
        }
        return Self.overriding(entries, with: site.plan.settings)
    }

    /// How a node reaches the databases.
    /// - Parameters:
    ///   - isReader: it only reads, and reads a member: of its own region, and of another's while that one is away.
    ///   - conninfo: how a shard is reached, with libpq's `target_session_attrs`.
    static func ledger(
        _ shards: [String], isReader: Bool, conninfo: (_ shard: String, _ target: String) -> String
    ) -> [Entry] {
        let reading = isReader ? "prefer-standby" : "read-write"
        return [
            ("control.dsn", conninfo(shards.first ?? "a", "any")),
            ("shard.dsns", shards.map { "\($0)=\(conninfo($0, reading))" }.joined(separator: ";")),
        ]
    }

    /// Whom a node asks who leads.
    static func patronis(_ topology: ReplicationTopology, from region: String, authority: String) -> [Entry] {
        let all = topology.shards.map {
            "\($0.name)=\(topology.patronis($0.name, from: region).joined(separator: " "))"
        }
        return [("shard.patroni", all.joined(separator: ";")), ("shard.patroni_authority", authority)]
    }

    /// Writes the file of every node.
    func write() throws(ClusterError) {
        for node in region.nodes {
            try ClusterFiles.folder(layout.cluster.directory + "/nodes/" + node.name, mode: 0o700)
            try ClusterFiles.write(
                Self.yaml(entries(node)), to: layout.cluster.configuration(of: node.name))
        }
    }

    /// `entries` with what `settings` (`key=value`) says instead, or besides.
    static func overriding(_ entries: [Entry], with settings: [String]) -> [Entry] {
        var result = entries
        for setting in settings {
            guard let equals = setting.firstIndex(of: "=") else { continue }
            let key = setting[..<equals].trimmingCharacters(in: .whitespaces)
            let value = String(setting[setting.index(after: equals)...])
            result.removeAll { $0.key == key }
            result.append((key, value))
        }
        return result
    }

    /// A settings file; every value is a quoted scalar.
    static func yaml(
        _ entries: [Entry],
        heading: String =
            "Written by zegel at every start. Give other values to `zegel local up --set key=value`."
    ) -> String {
        var text = "# \(heading)\n"
        for (key, value) in entries { text += "\(key): \(yamlScalar(value))\n" }
        return text
    }
}
