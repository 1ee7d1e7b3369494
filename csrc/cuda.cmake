# Whether CUDA kernels can be built, and for which architectures.

set(FACECORE_OLDEST_NVCC 11.8)  # the first that knows compute capability 9.0

# Sets CMAKE_CUDA_COMPILER when there is one that works; `reason` says what is wrong otherwise, and is empty if nothing.
# The compiler is handed to check_language by CUDACXX: it does not try one that CMAKE_CUDA_COMPILER names already.
macro(facecore_find_cuda reason)
  set(${reason} "")
  if(NOT CMAKE_CUDA_COMPILER)
    unset(CMAKE_CUDA_COMPILER CACHE)  # what an earlier run did not find is tried again
    if(NOT DEFINED ENV{CUDACXX})
      find_program(FACECORE_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
      if(FACECORE_NVCC)
        set(ENV{CUDACXX} ${FACECORE_NVCC})
      endif()
    endif()
    if(DEFINED ENV{CUDACXX})
      include(CheckLanguage)
      check_language(CUDA)
      if(NOT CMAKE_CUDA_COMPILER)
        set(${reason} "$ENV{CUDACXX} does not compile a trial program with this host compiler")
      endif()
    else()
      set(${reason} "no nvcc was found")
    endif()
  endif()
endmacro()

# `archs`: every supported architecture that an nvcc of this version knows, with PTX of the last for newer GPUs.
# `reason`: empty, or why the version does not do.
function(facecore_cuda_archs version archs reason)
  set(${reason} "" PARENT_SCOPE)
  if(version VERSION_LESS FACECORE_OLDEST_NVCC)
    set(${reason} "nvcc ${version} is older than ${FACECORE_OLDEST_NVCC}" PARENT_SCOPE)
  elseif(version VERSION_LESS 12.8)
    set(${archs} "75-real;80-real;86-real;89-real;90" PARENT_SCOPE)
  else()
    set(${archs} "75-real;80-real;86-real;89-real;90-real;100-real;120" PARENT_SCOPE)
  endif()
endfunction()
