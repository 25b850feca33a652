"""A closed triangle mesh that starts as a sphere, its geometry, and what it encloses."""

from __future__ import annotations

import itertools
from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Points = NDArray[np.float64]
Faces = NDArray[np.int64]

PIECE = 2_000_000
"""Columns tested against triangles at once: some 20 ms of work."""


class Mesh:
    """Which vertices of a closed surface are joined to triangles; where they lie is up to others.

    Parameters
    ----------
    faces : (F, 3) array of int
        Corners of each triangle, counterclockwise seen from outside; every vertex has one.
    """

    def __init__(self, faces: Faces) -> None:
        self.faces = faces
        count = int(faces.max()) + 1
        self._start, self._stop = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
        ones = np.ones(faces.size)
        self._adjacency = sparse.csr_matrix((ones, (self._start, self._stop)), (count, count))
        self._degree = np.diff(self._adjacency.indptr)[:, None].astype(np.float64)
        face = np.repeat(np.arange(len(faces)), 3)
        self._corners = sparse.csr_matrix((ones, (self._start, face)), (count, len(faces)))

    @classmethod
    def sphere(cls, subdivisions: int) -> tuple[Mesh, Points]:
        """Make an icosahedron whose triangles are cut in four so many times, of radius 1.

        Returns
        -------
        mesh : Mesh
        vertices : (10 * 4^subdivisions + 2, 3) array
        """
        golden = (1 + np.sqrt(5)) / 2
        first = [(0.0, y, z) for y in (-1.0, 1.0) for z in (-golden, golden)]
        vertices = np.array([np.roll(corner, turn) for turn in range(3) for corner in first])
        # Any three corners that are all one edge (of length 2) apart make one of the 20 faces.
        apart = np.linalg.norm(vertices[:, None] - vertices[None], axis=2)
        joined = np.abs(apart - 2) < 1e-6
        triples = itertools.combinations(range(12), 3)
        faces = np.array(
            [t for t in triples if all(joined[p] for p in itertools.combinations(t, 2))]
        )
        a, b, c = (vertices[faces[:, corner]] for corner in range(3))
        inward = np.einsum("ij,ij->i", _cross(b - a, c - a), a + b + c) < 0
        faces[inward] = faces[inward, ::-1]
        mesh = cls(faces)
        for _ in range(subdivisions):
            mesh, vertices = mesh.refined(vertices)
            vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
        return mesh, vertices / np.linalg.norm(vertices, axis=1, keepdims=True)

    def refined(self, vertices: Points) -> tuple[Mesh, Points]:
        """Cut every triangle in four at the middles of its edges, which come last."""
        a, b, c = self.faces.T
        edges = np.concatenate([np.stack(pair, axis=1) for pair in ((a, b), (b, c), (c, a))])
        unique, index = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
        ab, bc, ca = len(vertices) + index.reshape(3, -1)
        parts = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
        faces = np.concatenate([np.stack(part, axis=1) for part in parts])
        middles = vertices[unique].mean(axis=1)
        return Mesh(faces), np.concatenate([vertices, middles])

    def neighbours_mean(self, vertices: Points) -> Points:
        """Return the mean position of each vertex's neighbours."""
        mean: Points = (self._adjacency @ vertices) / self._degree
        return mean

    def normals(self, vertices: Points) -> Points:
        """Return the outward unit normal at each vertex, adjacent triangles counted by area."""
        a, b, c = (vertices[self.faces[:, corner]] for corner in range(3))
        normals: Points = self._corners @ _cross(b - a, c - a)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        return normals

    def edge_length(self, vertices: Points) -> float:
        """Return the mean length of an edge."""
        edges = vertices[self._stop] - vertices[self._start]
        return float(np.sqrt(np.einsum("ij,ij->i", edges, edges)).mean())


def _cross(a: Points, b: Points) -> Points:
    """Cross products of rows; numpy's own is several times slower."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def winding(
    faces: Faces, vertices: Points, shape: tuple[int, int, int]
) -> Generator[None, None, NDArray[np.int8]]:
    """Count how often a closed mesh winds around the centre of each voxel; pauses on the way.

    Along each line of voxels in the last axis, one is added where the line enters the mesh and one
    taken away where it leaves. A mesh that does not cut itself gives 1 inside and 0 outside; every
    other number tells of an intersection.

    Parameters
    ----------
    faces : (F, 3) array of int
        Corners of each triangle, counterclockwise seen from outside.
    vertices : (N, 3) array
        In voxel indices, whole numbers being centres; they may lie outside the volume.
    shape : tuple[int, int, int]
        Of the volume.
    """
    # No corner lies exactly above a centre, so no line meets two triangles at their common edge.
    corners = np.add(vertices, (1.7e-7, 2.3e-7, 0.0))[faces]
    limit = np.array(shape[:2]) - 1
    first = np.clip(np.ceil(corners[..., :2].min(axis=1)), 0, limit + 1).astype(np.int64)
    last = np.clip(np.floor(corners[..., :2].max(axis=1)), -1, limit).astype(np.int64)
    extent = np.maximum(last - first + 1, 0)
    columns = extent.prod(axis=1)
    total = np.zeros(shape, dtype=np.int8)
    ends = np.searchsorted(np.cumsum(columns), np.arange(0, columns.sum() + PIECE, PIECE), "right")
    for start, stop in itertools.pairwise(ends):
        part = slice(start, stop)
        _cross_lines(corners[part], first[part], extent[part], columns[part], total)
        yield
    slab = max(1, PIECE // (shape[1] * shape[2]))
    for start in range(0, shape[0], slab):
        piece = total[start : start + slab]
        np.cumsum(piece, axis=2, out=piece)
        yield
    return total


def _cross_lines(
    corners: Points,
    first: NDArray[np.int64],
    extent: NDArray[np.int64],
    columns: NDArray[np.int64],
    total: NDArray[np.int8],
) -> None:
    """Mark in `total` where the lines through the voxels cross these triangles."""
    face = np.repeat(np.arange(len(corners)), columns)
    within = np.arange(len(face)) - np.repeat(np.cumsum(columns) - columns, columns)
    i = first[face, 0] + within // extent[face, 1]
    j = first[face, 1] + within % extent[face, 1]
    x, y, z = np.moveaxis(corners, -1, 0)[:, face]
    weights = [
        (x[:, b] - i) * (y[:, c] - j) - (x[:, c] - i) * (y[:, b] - j)
        for b, c in ((1, 2), (2, 0), (0, 1))
    ]
    u, v, w = weights
    area = u + v + w
    hit = (np.minimum(np.minimum(u, v), w) >= 0) | (np.maximum(np.maximum(u, v), w) <= 0)
    hit &= area != 0
    height = (u * z[:, 0] + v * z[:, 1] + w * z[:, 2])[hit] / area[hit]
    k = np.maximum(np.ceil(height), 0).astype(np.int64)
    inside = k < total.shape[2]
    step = np.where(area[hit] > 0, -1, 1).astype(np.int8)
    np.add.at(total, (i[hit][inside], j[hit][inside], k[inside]), step[inside])
