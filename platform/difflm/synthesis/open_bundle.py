"""A bundle in memory, for whoever draws rows.

Shape legend: N records, Z latent size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from difflm.models.precision import own_device
from difflm.synthesis.bundle import encode_table, load_bundle
from difflm.synthesis.bundle_files import fitting
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.plans.request import PlanRequest
from difflm.synthesis.synthesizer import SamplingConfig, Screen, Synthesizer


class OpenBundle:
    """A bundle in memory, for whoever draws rows: the synthesizers of what it is asked for, and its encoder."""

    def __init__(self, folder: Path, config: SamplingConfig) -> None:
        """Load a bundle onto the GPU, where there is one.

        Raises:
            BundleError: a file is missing, damaged, or of another version.
        """
        self.device = own_device()
        self.config = config = config.resolved(self.device)
        self.bundle = load_bundle(
            folder,
            solver=config.solver_settings,
            device=self.device,
            precision=config.dtype(),
            allow_local_base=config.allow_local_base,
            signed_by=config.signed_by,
        )
        self._plans = DrawPlans(self.bundle, text_tokens=config.text_tokens, device=self.device)

    def synthesizer(
        self, request: PlanRequest | None = None, given: pa.Table | None = None, *, screen: Screen | None = None
    ) -> Synthesizer:
        """Make the synthesizer of a request; ``given`` is the table of the records that it refers to.

        Raises:
            ConfigError: the request names what is not there, or no record satisfies it.
            BundleError: the bundle has no prior for such a request.
        """
        request, bundle = request or PlanRequest(), self.bundle
        with fitting(bundle.folder):
            plan, relations = request.plan(self._plans, given), request.relations(bundle.schema)
            return Synthesizer(bundle, self.config, device=self.device, plan=plan, screen=screen, relations=relations)

    def encode(self, table: pa.Table) -> npt.NDArray[np.float32]:
        """Encode a normalised table: posterior means (N, Z)."""
        bundle = self.bundle
        parts = encode_table(bundle.autoencoder, bundle.parts, bundle.shape, table, bundle.schema, device=self.device)
        return np.concatenate([posterior.mean_BZ.float().cpu().numpy() for posterior in parts])
