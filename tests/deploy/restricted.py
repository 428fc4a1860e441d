"""The Pod Security Standard "restricted", and what this project asks for beyond it.

https://kubernetes.io/docs/concepts/security/pod-security-standards, of which the rules for Linux are here.
"""

from collections.abc import Iterator

from tests.deploy.manifests import Document

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SECCOMP = ("RuntimeDefault", "Localhost")
SELINUX_TYPES = ("container_t", "container_init_t", "container_kvm_t", "container_engine_t")
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip


def faults(spec: Document) -> list[str]:
    """Each rule that a pod of this spec breaks, in a few words; none if it is restricted."""
    return [*_of_pod(spec), *(fault for each in _containers(spec) for fault in _of_container(each, spec))]


def _containers(spec: Document) -> list[Document]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [container for kind in kinds for container in spec.get(kind, [])]


def _of_pod(spec: Document) -> Iterator[str]:
    for namespace in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(namespace):
            yield namespace
    for volume in spec.get("volumes", []):
        for kind in volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is {kind}"
    context = spec.get("securityContext", {})
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    yield from _of_any("pod", context)
    if spec.get("automountServiceAccountToken") is not False:
        yield "a token is mounted"


def _of_any(name: str, context: Document) -> Iterator[str]:
    """What holds of a security context, whoever's it is."""
    if context.get("runAsUser") == 0:
        yield f"{name} runs as root"
    if context.get("seccompProfile", {"type": SECCOMP[0]})["type"] not in SECCOMP:
        yield f"{name} has seccomp {context['seccompProfile']['type']}"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield f"{name} has no AppArmor"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", SELINUX_TYPES[0]) not in SELINUX_TYPES or selinux.keys() & {"user", "role"}:
        yield f"{name} has SELinux options"


def _of_container(container: Document, spec: Document) -> Iterator[str]:
    name, own = container["name"], container.get("securityContext", {})
    context = spec.get("securityContext", {}) | own
    yield from _of_any(name, own)
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may gain rights"
    if context.get("runAsNonRoot") is not True:
        yield f"{name} may run as root"
    if "seccompProfile" not in context:
        yield f"{name} has no seccomp profile"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or capabilities.get("add", []):
        yield f"{name} has capabilities"
    if own.get("procMount", "Default") != "Default":
        yield f"{name} sees all of /proc"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield f"{name} has a port of the host"
    if own.get("readOnlyRootFilesystem") is not True:
        yield f"{name} may write to its root"
