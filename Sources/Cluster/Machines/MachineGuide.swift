// The page that lies beside the generated files: what goes where, and in which order things start.

extension MachineConfiguration {
    /// `README.md`.
    var guide: String {
        let shards = plan.topology.shards
        var lines = [
            "# A ledger over \(plan.sites.count) regions",
            "",
            "Written by `zegel region init`; run it again after every change of the plan, and once in eight months for new certificates. A",
            "file that you changed is left as it is: what would have been written lies beside it as `NAME.new`.",
            "",
            "| folder | what | for |", "|---|---|---|",
        ]
        for region in plan.regions {
            for machine in region.machines {
                let what = (machine.votes ? ["etcd"] : []) + machine.shards.map { "shard \($0)" }
                lines.append(
                    "| `machines/\(machine.name)` | \(what.joined(separator: ", ")) | \(machine.address): `\(region.places.files)` |"
                )
            }
        }
        for region in plan.sites {
            lines.append(
                "| `nodes/\(region.name)` | how nodes find the ledger | machines of edges, workers and apis: `\(region.places.files)` |"
            )
        }
        lines += [
            "| `operator` | `zegel … --config operator/cluster.yaml`; holds the superuser's password | stays here |",
            "| `\(plan.authority ?? "authority")` | the authority's private key: who has it can pose as any member | stays here, better offline |",
            "| `secrets` | passwords of database roles | stays here |", "",
            "## On each machine", "",
            "Needed: PostgreSQL 15 (its own cluster and unit switched off), etcd, Patroni 4 with etcd3 and psycopg3, zegel; the clocks by NTP.",
            "Ports, between the regions' machines alone: etcd's, PostgreSQL's and Patroni's; from nodes PostgreSQL's and Patroni's.",
            "",
        ]
        for region in plan.regions {
            for machine in region.machines {
                lines += block([
                    "rsync -a machines/\(machine.name)/ root@\(machine.address):\(region.places.files)/",
                    "ssh root@\(machine.address) 'cp \(region.places.files)/systemd/*.service /etc/systemd/system/ &&",
                    "  cp \(region.places.files)/systemd/zegel.conf /etc/tmpfiles.d/ &&",
                    "  systemd-tmpfiles --create /etc/tmpfiles.d/zegel.conf && systemctl daemon-reload'",
                ])
            }
        }
        lines += ["## Start, in this order", "", "1. etcd of all regions; each waits for the others.", ""]
        lines += block(
            plan.regions.flatMap { region in
                region.machines.filter(\.votes).map {
                    "ssh root@\($0.address) systemctl enable --now zegel-etcd"
                }
            })
        lines += ["2. Each shard in its home region, which makes it; its guard beside it.", ""]
        lines += block(shards.flatMap { shard in starts(shard) { $0.region == shard.home } })
        lines += [
            "3. Once `zegel shard status --config operator/cluster.yaml` names a leader of each, the other regions; they copy it.",
            "",
        ]
        lines += block(shards.flatMap { shard in starts(shard) { $0.region != shard.home } })
        lines += ["4. The database of each shard, and who brings leaders home.", ""]
        lines += block(
            ["zegel shard init --config operator/cluster.yaml"]
                + plan.sites.compactMap { region in
                    region.machines.first { !$0.shards.isEmpty }
                        .map { "ssh root@\($0.address) systemctl enable --now zegel-keeper" }
                } + ["zegel shard status --config operator/cluster.yaml"])
        lines += [
            "## After a change", "",
            "Copy the folders again with the commands above; then `systemctl reload zegel-patroni-SHARD` for new certificates or settings of Patroni,",
            "`systemctl restart` for anything else, one region after the other. What the members of a shard share is in etcd from the first start on: change it with",
            "`patronictl -c …/postgres/SHARD.yaml edit-config`. Voters that are added to a running etcd are its own business: `etcdctl member add` first.",
            "",
        ]
        return lines.joined(separator: "\n")
    }

    private func block(_ commands: [String]) -> [String] { ["```"] + commands + ["```", ""] }

    private func starts(
        _ shard: ReplicationTopology.Shard, where isMeant: (ReplicationTopology.Member) -> Bool
    ) -> [String] {
        shard.members.filter(isMeant).map {
            "ssh root@\($0.address) systemctl enable --now zegel-patroni-\(shard.name) zegel-guard-\(shard.name)"
        }
    }
}
