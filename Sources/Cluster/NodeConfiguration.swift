// Writes the settings file of each node of a local cluster.

import Foundation
import Settings

/// What the nodes of a local cluster are told.
public struct NodeConfiguration: Sendable {
    /// One `key: value` line.
    public typealias Entry = (key: String, value: String)

    /// The cluster's plan.
    public let plan: ClusterPlan
    /// Where everything lies.
    public let layout: ClusterLayout
    /// The pinned root of key sets, base64.
    public let rootPublic: String
    /// Connection texts by database role.
    public let databases: [String: String]
    /// The certificate of edges and api.
    public let identity: LocalAuthority.Identity

    /// The settings of one node, those of the plan last.
    public func entries(_ node: NodePlan, in region: RegionPlan) -> [Entry] {
        func address(_ use: String) -> String { "\(region.address):\(node.ports[use] ?? 0)" }
        let dsn = databases["zegel_\(node.role.rawValue)"] ?? ""
        var entries: [Entry] = [
            ("node.name", node.name), ("node.region", region.name),
            ("node.data_dir", layout.directory + "/nodes/" + node.name),
            ("control.dsn", dsn), ("shard.dsns", "a=" + dsn), ("metrics.listen", address("metrics")),
            ("keys.root_public", rootPublic),
            // Less than what the supervisor grants before it kills.
            ("node.shutdown_grace", node.role == .api ? "3s" : "7s"),
        ]
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
        case .keyring, .postgres, .supervisor:
            break
        }
        return Self.overriding(entries, with: plan.settings)
    }

    /// Writes the file of every node.
    public func write() throws(ClusterError) {
        for region in plan.regions {
            for node in region.nodes {
                try ClusterFiles.folder(layout.directory + "/nodes/" + node.name, mode: 0o700)
                try ClusterFiles.write(
                    Self.yaml(entries(node, in: region)), to: layout.configuration(of: node.name))
            }
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
    static func yaml(_ entries: [Entry]) -> String {
        var text =
            "# Written by zegel at every start. Give other values to `zegel local up --set key=value`.\n"
        for (key, value) in entries {
            var quoted = ""
            for scalar in value.unicodeScalars {
                switch scalar {
                case "\"": quoted += "\\\""
                case "\\": quoted += "\\\\"
                case "\n": quoted += "\\n"
                case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                    let hex = String(scalar.value, radix: 16)
                    quoted += "\\x" + (hex.count < 2 ? "0" : "") + hex
                default: quoted.unicodeScalars.append(scalar)
                }
            }
            text += "\(key): \"\(quoted)\"\n"
        }
        return text
    }
}
