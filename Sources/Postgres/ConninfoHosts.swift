// The hosts that a conninfo names, each as a conninfo of its own: for whoever asks every member of a cluster, not whichever answers.

import CLibPQ

extension PostgresConfiguration {
    /// One configuration for each host of the conninfo, whatever its role; itself alone where libpq cannot read it or it names one host.
    public var members: [PostgresConfiguration] {
        guard let options = PQconninfoParse(conninfo, nil) else { return [self] }
        defer { PQconninfoFree(options) }
        func values(_ keyword: String) -> [String] {
            var index = 0
            while let name = options[index].keyword {
                if String(cString: name) == keyword {
                    guard let value = options[index].val else { return [] }
                    return String(cString: value).split(separator: ",", omittingEmptySubsequences: false)
                        .map(String.init)
                }
                index += 1
            }
            return []
        }
        let keyword = values("host").isEmpty ? "hostaddr" : "host"
        let (hosts, ports) = (values(keyword), values("port"))
        guard hosts.count > 1 else { return [self] }
        return hosts.enumerated().map { index, host in
            var one = self
            one.overrides += [(keyword, host), ("target_session_attrs", "any")]
            // libpq: a single port is that of every host.
            if let port = index < ports.count ? ports[index] : ports.first {
                one.overrides.append(("port", port))
            }
            return one
        }
    }
}
